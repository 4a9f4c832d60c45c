"""Comparison: all tables of some runs, the same for `compare`, for `run` and for the page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ttt_bench.api.errors import unknown
from ttt_bench.api.reference import Publication
from ttt_bench.compare.pairs import Table, compare
from ttt_bench.compare.published import match_published
from ttt_bench.compare.selection import Wanted, require_number
from ttt_bench.compare.statistics import LEVEL
from ttt_bench.registry import registry
from ttt_bench.report import tables as grids
from ttt_bench.report.costs import cost_table
from ttt_bench.report.grid import Grid
from ttt_bench.report.notes import notes
from ttt_bench.report.published import NOTE, beside_published, published, published_costs
from ttt_bench.report.scores import score_tables

# The tables by name, each with what it shows; the first two are shown unless others are named.
TABLES = {
    "results": "accuracy, difference to the baseline and cost",
    "datasets": "methods by datasets",
    "groups": "accuracy by corruption or domain",
    "pairs": "every pair of rows",
    "metrics": "the other metrics",
    "costs": "the cost step by step",
}
FIRST = ("results", "datasets")
ALL = "all"


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        tables: the tables of the runs; the summaries of their rows are those of `compared`.
        compared: rows, pairs and averages as `compare --format json` prints them.
        grids: the same as tables, by the names of `TABLES`.
        reference: the published tables, and the measured numbers beside them.
        notes: what a reader of the tables has to know.
    """

    tables: Sequence[Table]
    compared: dict[str, Any]
    grids: dict[str, list[Grid]]
    reference: list[Grid]
    notes: list[str]

    def chosen(self, names: Sequence[str] = ()) -> list[Grid]:
        """Return the tables of these names, those of the first screen where none is named.

        The published tables of a reference are always among them.

        Raises:
            UserError: there is no such table.
        """
        for name in names:
            if name not in (*TABLES, ALL):
                raise unknown("table", name, (*TABLES, ALL))
        wanted = TABLES if ALL in names else names or FIRST
        return [grid for name in wanted for grid in self.grids[name]] + self.reference

    def further(self, names: Sequence[str] = ()) -> str:
        """Return a line that names the tables which are not shown, "" where there are none."""
        shown = TABLES if ALL in names else names or FIRST
        left = [name for name, some in self.grids.items() if some and name not in shown]
        if not left:
            return ""
        listed = ", ".join(f"{name} ({TABLES[name]})" for name in left)
        return f"Further tables by --tables NAME, or --tables all: {listed}."


def comparison(
    tables: Sequence[Table],
    reference: str | None = None,
    against: Wanted | None = None,
    metrics: Sequence[str] = (),
) -> Comparison:
    """Compare the rows of tables with one another, and with a reference where one is named.

    Args:
        tables: the tables.
        reference: the name of published tables.
        against: the row that all others of its table are compared with; None for every pair.
        metrics: the metrics and costs that the results show, the usual ones where none is named.

    Raises:
        UserError: there is no such reference, row or metric.
    """
    publication = _load_reference(reference) if reference else Publication(tables=())
    for name in metrics:
        require_number([row for table in tables for row in table.rows], name, "--metric")
    compared = compare(tables, against)
    rows = compared["rows"]
    for row in rows:
        row["reference"] = match_published(row, publication.tables)
    summaries = iter(rows)
    tables = [
        replace(table, rows=[replace(row, summary=next(summaries)) for row in table.rows])
        for table in tables
    ]
    all_rows = [row for table in tables for row in table.rows]
    found = {
        "results": [
            grids.overview(title, some, metrics) for title, some in grids.by_column(rows).items()
        ],
        "datasets": [grids.by_dataset(rows, compared["averages"])],
        "groups": [grids.by_group(title, some) for title, some in grids.by_column(rows).items()],
        "pairs": [grids.pairs(compared["pairs"])] if compared["pairs"] else [],
        "metrics": score_tables(rows),
        "costs": [cost_table(all_rows)],
    }
    beside: list[Grid] = []
    if reference:
        beside += [beside_published(reference, rows), *published(publication.tables)]
        beside += [published_costs(publication.costs)] if publication.costs else []
    marked = [] if metrics else _notes_on_differences(compared)
    explained = [*notes(rows), *marked, *([NOTE] if reference else [])]
    present = {name: [grid for grid in some if grid is not None] for name, some in found.items()}
    return Comparison(tables, compared, present, beside, explained)


def _notes_on_differences(compared: dict[str, Any]) -> list[str]:
    """Return the note on the mark of differences, nothing where no table has one."""
    shown = [row["baseline"] for row in compared["rows"] if row["baseline"]]
    if not any(one["p_holm"] is not None and one["p_holm"] < LEVEL for one in shown):
        return []
    count = len(compared["pairs"])
    correction = f" after Holm's correction for {count} pairs" if count > 1 else ""
    return [f"{grids.CLEAR} more than noise: p below {LEVEL}{correction}."]


def _load_reference(name: str) -> Publication:
    return registry().references.find(name).spec.load()()
