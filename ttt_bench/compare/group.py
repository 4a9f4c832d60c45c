"""Grouping runs: which of them stand in one table."""

from collections.abc import Sequence
from dataclasses import replace

from ttt_bench.api.errors import UserError
from ttt_bench.compare.read import FinishedRun
from ttt_bench.runs.card import differences

# Fields that a user types; they say more than the fields that follow from them.
TYPED = ("limit", "seed", "revision", "class_names")


def group_by_table(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Return the runs of each table by the name of its dataset, their records in one order.

    Raises:
        UserError: two runs on one dataset differ in the protocol part of their cards, or saw other
            pixels under the same name.
    """
    tables: dict[str, list[FinishedRun]] = {}
    for run in runs:
        table = tables.setdefault(run.card.protocol["dataset"], [])
        if table:
            _require_same_protocol(table[0], run)
            ids = table[0].records.sample_id
            # Methods with batches of their own save their records in another order.
            if run.records.sample_id != ids:
                run = replace(run, records=run.records.in_order_of(ids))
            _require_same_pixels(table[0], run)
        table.append(run)
    return tables


def _require_same_protocol(first: FinishedRun, second: FinishedRun) -> None:
    if first.card.fingerprint == second.card.fingerprint:
        return
    different = differences(first.card.protocol, second.card.protocol)
    field, left, right = min(different, key=lambda one: (one[0] not in TYPED, one[0]))
    raise UserError(
        f"{first.label} and {second.label} cannot stand in one table: {field} is {left} in the "
        f"first and {right} in the second; name the runs to compare"
    )


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
