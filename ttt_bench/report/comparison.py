"""Everything that a comparison of runs says in tables, for `compare` and for the page alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ttt_bench.compare.published import match_published
from ttt_bench.compare.read import FinishedRun, compare
from ttt_bench.registry import registry
from ttt_bench.report import tables
from ttt_bench.report.costs import cost_table, published_costs
from ttt_bench.report.scores import score_table


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        compared: rows, pairs and averages as `compare --format json` prints them.
        grids: the same as tables, the published ones of the reference last.
        notes: what a reader of the tables has to know.
    """

    compared: dict[str, Any]
    grids: list[tables.Grid]
    notes: list[str]


def comparison(runs: Sequence[FinishedRun], reference: str | None) -> Comparison:
    """Compare runs with one another and, where a reference is named, with its numbers.

    Raises:
        UserError: two runs of one dataset may not stand in one column, or there is no such
            reference.
    """
    published = registry().references.find(reference).spec.load()() if reference else None
    compared = compare(runs)
    rows = compared["rows"]
    for row in rows:
        row["reference"] = match_published(row, published.tables if published else ())
    grids = [
        *filter(None, [tables.by_dataset(rows, compared["averages"])]),
        *tables.result_grids(rows),
        *([tables.pairs(compared["pairs"])] if compared["pairs"] else []),
        score_table(rows),
        cost_table(runs),
    ]
    notes = tables.notes(rows)
    if reference and published:
        notes.append("≠: the printed average does not follow from the printed cells.")
        grids += [tables.beside_published(reference, rows), *tables.published(published.tables)]
        grids += [published_costs(published.costs)] if published.costs else []
    return Comparison(compared, grids, notes)
