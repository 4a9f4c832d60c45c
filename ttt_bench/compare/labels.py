"""Labels: what rows are called, by the least that tells them apart."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttt_bench.runs.card import Card, digest

# Fields that say more than the fields that follow from them; their values stand alone.
FIRST = ("backbone", "precision", "stream.name")
# Fields that follow from others, or that say nothing of how the predictions were made.
DERIVED = (
    "method", "chunks", "known_failures", "dataset_preset", "stream.order",
    "stream.revisited_chunks", "stream.batch_size",
)  # fmt: skip
# A longer value is shown as the first digits of its digest.
LONGEST_VALUE = 32
DIGITS = 8


@dataclass(frozen=True)
class Named:
    """A row that needs a label.

    Attributes:
        base: the first word of the label, such as the method.
        fields: what may tell the row from others, as text, the most telling first.
        last: what tells it apart where no field does, such as its folder.
    """

    base: str
    fields: Mapping[str, str]
    last: str


def method_fields(card: Card) -> dict[str, str]:
    """Return the fields of a card that can tell its row from other rows of the method, as text.

    Fields that follow from others are left out. The order is that in which a label names them.
    """
    flat = {
        name: value
        for name, value in _flatten(card.method, "")
        if name not in DERIVED and name.partition(".")[0] not in DERIVED
    }
    names = [name for name in FIRST if name in flat]
    names += [name for name in flat if name.startswith("stream.") and name not in names]
    names += [name for name in flat if name.startswith("config.")]
    names += [name for name in flat if name not in names]
    return {name: flat[name] for name in names}


def labels(rows: Sequence[Named]) -> list[str]:
    """Return a label for each row, of which no two are equal.

    A label is the row's base, followed by the fewest fields that tell the rows of this base apart,
    such as `apm steps=5 lr=0.001`. Every row of a base names the same fields.
    """
    chosen = {base: _telling([row for row in rows if row.base == base]) for base in _bases(rows)}
    found = [" ".join([row.base, *_words(row.fields, chosen[row.base])]) for row in rows]
    counted = Counter(found)
    return [
        f"{label} ({row.last})" if counted[label] > 1 else label
        for row, label in zip(rows, found, strict=True)
    ]


def _bases(rows: Sequence[Named]) -> list[str]:
    return list(dict.fromkeys(row.base for row in rows))


def _telling(rows: Sequence[Named]) -> list[str]:
    """Return the fewest fields that tell rows apart, chosen one after another, in their order."""
    order = list(dict.fromkeys(name for row in rows for name in row.fields))
    chosen: list[str] = []
    while (classes := _classes(rows, chosen)) < len(rows):
        gains = {name: _classes(rows, [*chosen, name]) for name in order}
        best = max(gains, key=gains.__getitem__, default=None)
        if best is None or gains[best] == classes:
            break
        chosen.append(best)
    # A field that was chosen early may say nothing beside those chosen after it.
    for name in tuple(chosen):
        others = [other for other in chosen if other != name]
        if _classes(rows, others) == _classes(rows, chosen):
            chosen = others
    return [name for name in order if name in chosen]


def _classes(rows: Sequence[Named], fields: Sequence[str]) -> int:
    """Return how many of the rows these fields tell apart."""
    return len({tuple(row.fields.get(name) for name in fields) for row in rows})


def _words(fields: Mapping[str, str], chosen: Sequence[str]) -> list[str]:
    """Return what a label says of the chosen fields; one that a row does not have is left out."""
    words = []
    for name in chosen:
        if name in FIRST:
            words += [fields[name]] if name in fields else []
        elif name in fields:
            short = name.removeprefix("config.").removeprefix("stream.")
            words.append(f"{short}={fields[name]}")
    return words


def _flatten(value: Mapping[str, Any], before: str) -> list[tuple[str, str]]:
    """Return the values of nested fields as text, by their dotted names."""
    flat: list[tuple[str, str]] = []
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            flat += _flatten(inner, f"{before}{name}.")
        else:
            flat.append((f"{before}{name}", shown(inner)))
    return flat


def shown(value: Any) -> str:
    """Return a value of a card as one short word: `0.001`, `true`, `none`, or its digest."""
    if value is None:
        text = "none"
    elif isinstance(value, float):
        text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    elif isinstance(value, str):
        text = value
    else:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if not text or len(text) > LONGEST_VALUE or len(text.split()) != 1:
        return digest(value)[:DIGITS]
    return text
