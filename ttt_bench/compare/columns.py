"""Columns: which runs stand in one table, and which fit none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ttt_bench.api.errors import UserError
from ttt_bench.compare.labels import Named, labels, shown
from ttt_bench.compare.read import FinishedRun
from ttt_bench.runs.card import differences, digest

# Fields that a user types; they say more than the fields that follow from them.
TYPED = ("limit", "revision", "class_names")


@dataclass(frozen=True)
class Column:
    """Runs of one protocol, whose numbers can be compared.

    Attributes:
        title: the dataset, with more where another column is of the same dataset.
        dataset: the dataset.
        runs: the runs, their records in one order.
    """

    title: str
    dataset: str
    runs: list[FinishedRun]


def columns(runs: Sequence[FinishedRun]) -> tuple[list[Column], list[str]]:
    """Return the columns of some runs, the largest first, and a line for each run that fits none.

    The protocol parts of a column's cards are equal but for the seed. A run that is alone in its
    column fits none if other runs on its dataset stand in a table.

    Raises:
        UserError: two runs of a column saw other pixels under the same name.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(digest(_without_seed(run)), []).append(run)
    by_size = sorted(groups.values(), key=lambda some: (-len(some), -some[0].card.protocol["n"]))
    largest: dict[str, list[FinishedRun]] = {}
    for group in by_size:
        largest.setdefault(_dataset(group[0]), group)
    kept, left_out = [], []
    for group in by_size:
        others = largest[_dataset(group[0])]
        if len(group) == 1 and len(others) > 1:
            left_out.append(_left_out(group[0], others))
        else:
            kept.append(group)
    titles = labels([_named(group[0]) for group in kept])
    return [
        Column(title, _dataset(group[0]), _in_one_order(group))
        for title, group in zip(titles, kept, strict=True)
    ], left_out


def _dataset(run: FinishedRun) -> str:
    return run.card.protocol["dataset"]


def _without_seed(run: FinishedRun) -> dict[str, Any]:
    return {name: value for name, value in run.card.protocol.items() if name != "seed"}


def _named(run: FinishedRun) -> Named:
    protocol: Mapping[str, Any] = run.card.protocol
    names = sorted(_without_seed(run), key=lambda name: (name not in TYPED, name))
    fields = {name: shown(protocol[name]) for name in names if name != "dataset"}
    return Named(_dataset(run), fields, run.card.fingerprint)


def _left_out(run: FinishedRun, others: Sequence[FinishedRun]) -> str:
    """Return the line that names a run which is alone on its dataset, and says why."""
    different = differences(_without_seed(run), _without_seed(others[0]))
    field, here, there = min(different, key=lambda one: (one[0] not in TYPED, one[0]))
    return (
        f"left out: {run.label}: its {field} is {shown(here)}, and {shown(there)} in the table of "
        f"{len(others)} runs on {_dataset(run)}"
    )


def _in_one_order(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Return the runs of a column with their records in the order of the first run's.

    Raises:
        UserError: two of them saw other pixels under the same name.
    """
    ids = runs[0].records.sample_id
    ordered = []
    for run in runs:
        # Methods with batches of their own save their records in another order.
        if run.records.sample_id != ids:
            run = replace(run, records=run.records.in_order_of(ids))
        _require_same_pixels(runs[0], run)
        ordered.append(run)
    return ordered


def _require_same_pixels(first: FinishedRun, second: FinishedRun) -> None:
    left, right = first.records.image_digest, second.records.image_digest
    if left == right:
        return
    for sample, a, b in zip(first.records.sample_id, left, right, strict=True):
        # An empty digest stands for pixels that are not known.
        if a != b and a and b:
            raise UserError(
                f"{first.label} and {second.label} cannot stand in one table: the image of sample "
                f"{sample} was replaced between the two runs; run one of them again with --fresh"
            )
