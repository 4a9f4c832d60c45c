"""The protocol card: what every row of a column must share, and what a row brings of its own."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ttt_bench.datasets.base import Dataset
from ttt_bench.errors import UserError

SCORING_RULE = "top-1 of the last step's logits, in percent of the samples"


class _Absent:
    """Stands for a field that a card does not have."""

    def __str__(self) -> str:
        return "nothing"


ABSENT = _Absent()


@dataclass(frozen=True)
class Card:
    """The two parts of a protocol card, as plain JSON values.

    Attributes:
        column: dataset, revision, samples, classes, corruption source, limit, seed, scoring rule.
            Two runs stand in one column only if this part is equal.
        row: method, configuration, backbone, weights, transform, dtype, prompts, labelled data.
    """

    column: Mapping[str, Any]
    row: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the column part."""
        return digest(self.column)[:16]

    @property
    def key(self) -> str:
        """10 hexadecimal digits that stand for both parts; names the run's folder."""
        return digest({"column": self.column, "row": self.row})[:10]

    @property
    def digests(self) -> dict[str, dict[str, str]]:
        """16 hexadecimal digits for every field, kept beside the card to name an edited one."""
        parts = {"column": self.column, "row": self.row}
        return {
            part: {name: digest(value)[:16] for name, value in fields.items()}
            for part, fields in parts.items()
        }

    def first_difference(self, other: "Card") -> str | None:
        """The first field in which two cards differ and its two values, None if they are equal."""
        return next(
            (
                f"{name}: {mine} here, {theirs} there"
                for part in ("column", "row")
                for name, mine, theirs in differences(getattr(self, part), getattr(other, part))
            ),
            None,
        )


def column_card(dataset: Dataset, indices: list[int], limit: int | None, seed: int) -> dict:
    """The column part for these samples of a dataset."""
    return {
        "dataset": dataset.name,
        **dataset.card(),
        "samples": samples_digest(dataset.sample_id(index) for index in indices),
        "n": len(indices),
        "class_names": list(dataset.class_names),
        "limit": limit,
        "seed": seed,
        "scoring_rule": SCORING_RULE,
    }


def samples_digest(sample_ids: Iterable[str]) -> str:
    """SHA-256 that stands for a set of samples, in whatever order they were worked off."""
    return hashlib.sha256("".join(sorted(sample_ids)).encode()).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # JSON files can hold lone surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def differences(
    mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """(field, value, other value) for each field in which two parts of cards differ."""
    for name in dict.fromkeys((*mine, *theirs)):
        one, other = mine.get(name, ABSENT), theirs.get(name, ABSENT)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            inner = differences(one, other)
            yield from ((f"{name}.{field}", a, b) for field, a, b in inner)
        # As digests see them: null is not the same as nothing, nor 1 as 1.0 or true.
        elif one is not other and (ABSENT in (one, other) or digest(one) != digest(other)):
            yield name, one, other


def read_card(manifest: Mapping[str, Any], where: str) -> Card:
    """The card of a manifest, checked against the digests and the fingerprint stored beside it.

    Raises:
        UserError: the card was edited, or is not one; the field is named.
    """
    try:
        card = Card(dict(manifest["card"]["column"]), dict(manifest["card"]["row"]))
        stored = {
            "digests": {part: dict(manifest["digests"][part]) for part in ("column", "row")},
            "fingerprint": manifest["fingerprint"],
            "key": manifest["key"],
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{where}: no protocol card in it ({error}); run again elsewhere"
        ) from error
    made = {"digests": card.digests, "fingerprint": card.fingerprint, "key": card.key}
    edited = next((name for name, _, _ in differences(stored, made)), None)
    if edited is not None:
        field = edited.removeprefix("digests.")
        raise UserError(
            f"{where}: {field} was edited and no longer fits its digest, so the run cannot be "
            "compared: restore the file or run again"
        )
    return card
