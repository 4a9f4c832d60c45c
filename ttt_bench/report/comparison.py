"""Comparison: all tables of some runs, the same for `compare` and for the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ttt_bench.api.reference import Publication
from ttt_bench.compare.pairs import compare
from ttt_bench.compare.published import match_published
from ttt_bench.compare.read import FinishedRun
from ttt_bench.registry import registry
from ttt_bench.report import tables
from ttt_bench.report.costs import cost_table
from ttt_bench.report.grid import Grid
from ttt_bench.report.notes import notes
from ttt_bench.report.published import NOTE, beside_published, published, published_costs
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
    grids: list[Grid]
    notes: list[str]


def comparison(runs: Sequence[FinishedRun], reference: str | None) -> Comparison:
    """Compare runs with one another and, where a reference is named, with its numbers.

    Raises:
        UserError: two runs on one dataset differ in their protocol, or there is no such reference.
    """
    publication = _load_reference(reference) if reference else Publication(tables=())
    compared = compare(runs)
    rows = compared["rows"]
    for row in rows:
        row["reference"] = match_published(row, publication.tables)
    grids = [
        *filter(None, [tables.by_dataset(rows, compared["averages"])]),
        *tables.result_grids(rows),
        *([tables.pairs(compared["pairs"])] if compared["pairs"] else []),
        score_table(rows),
        cost_table(runs),
    ]
    explained = notes(rows)
    if reference:
        explained.append(NOTE)
        grids += [beside_published(reference, rows), *published(publication.tables)]
        grids += [published_costs(publication.costs)] if publication.costs else []
    return Comparison(compared, grids, explained)


def _load_reference(name: str) -> Publication:
    return registry().references.find(name).spec.load()()
