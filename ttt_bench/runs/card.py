"""Card: the protocol that rows of one table share, and the method part that each row has alone."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError

PARTS = ("protocol", "method")
SCORING_RULE = "top-1 of the last step's logits, in percent of the samples"


class _Absent:
    """The value of a field that a card does not have."""

    def __str__(self) -> str:
        return "nothing"


ABSENT = _Absent()


@dataclass(frozen=True)
class Card:
    """The two parts of a protocol card, as plain JSON values.

    Attributes:
        protocol: dataset, revision, samples, classes, corruption source, limit, seed, scoring rule.
            Runs stand in one table only if this part is equal.
        method: method, configuration, backbone, weights, transform, dtype, prompts, labelled data,
            and the streams of a method of kind `batch` or `stream`.
    """

    protocol: Mapping[str, Any]
    method: Mapping[str, Any]

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return both parts by name, as the manifest holds them."""
        return {part: dict(getattr(self, part)) for part in PARTS}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the protocol part."""
        return digest(self.protocol)[:16]

    @property
    def key(self) -> str:
        """10 hexadecimal digits that stand for both parts; names the run's folder."""
        return digest(self.as_json())[:10]

    @property
    def digests(self) -> dict[str, dict[str, str]]:
        """16 hexadecimal digits for every field, kept beside the card to name an edited one."""
        return {
            part: {name: digest(value)[:16] for name, value in fields.items()}
            for part, fields in self.as_json().items()
        }

    def first_difference(self, other: "Card") -> str | None:
        """Return the first field in which two cards differ with both values, None if equal."""
        return next(
            (
                f"{name}: {mine} here, {theirs} there"
                for part in PARTS
                for name, mine, theirs in differences(getattr(self, part), getattr(other, part))
            ),
            None,
        )


def protocol_part(
    dataset: Dataset,
    indices: Sequence[int],
    limit: int | None,
    seed: int,
    skipped: Sequence[int] = (),
) -> dict[str, Any]:
    """Return the protocol part of the card for these samples of a dataset.

    Args:
        dataset: the dataset.
        indices: its entries that are the run's samples.
        limit: how many the user asked for, None for all.
        seed: the seed of every random draw.
        skipped: entries that were left out because their images are unreadable.
    """
    return {
        "dataset": dataset.identity,
        **dataset.card(),
        "samples": samples_digest(dataset.sample_id(index) for index in indices),
        "n": len(indices),
        "skipped": [dataset.entries[index].key for index in skipped],
        "class_names": list(dataset.classes.names),
        "limit": limit,
        "seed": seed,
        "scoring_rule": SCORING_RULE,
    }


def samples_digest(sample_ids: Iterable[str]) -> str:
    """Return the SHA-256 of a set of samples, the same in any order."""
    return hashlib.sha256("".join(sorted(sample_ids)).encode()).hexdigest()


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value in its canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # JSON files can hold lone surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def differences(
    mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield (field, value, other value) for each field in which two parts of cards differ."""
    for name in dict.fromkeys((*mine, *theirs)):
        one, other = mine.get(name, ABSENT), theirs.get(name, ABSENT)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            inner = differences(one, other)
            yield from ((f"{name}.{field}", a, b) for field, a, b in inner)
        # As digests see them: null is not the same as nothing, nor 1 as 1.0 or true.
        elif one is not other and (ABSENT in (one, other) or digest(one) != digest(other)):
            yield name, one, other


def card_of(manifest: Mapping[str, Any]) -> Card:
    """Return the card of a manifest, whose digests `read_card` checks."""
    return Card(*(dict(manifest["card"][part]) for part in PARTS))


def revisited_chunks(card: Card) -> int:
    """Return how many chunks hold what came again at the end of a stream."""
    count = (card.method.get("stream") or {}).get("revisited_chunks", 0)
    return count if isinstance(count, int) and count >= 0 else 0


def read_card(manifest: Mapping[str, Any], where: str) -> Card:
    """Read the card of a manifest and check it against the digests stored beside it.

    Raises:
        UserError: the card was edited, or is not one; the field is named.
    """
    try:
        card = card_of(manifest)
        stored = {
            "digests": {part: dict(manifest["digests"][part]) for part in PARTS},
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
