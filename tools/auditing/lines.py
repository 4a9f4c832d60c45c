"""Rows of the overview, and what every page says of a row of runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.auditing.comparing import Runs
from tools.result_runs import top1
from ttt_bench.compare.read import FinishedRun
from ttt_bench.report.grid import three_digits

COST = "gflops_per_sample"


@dataclass(frozen=True)
class Line:
    """A row of the overview.

    Attributes:
        question: what is claimed.
        tested: dataset, backbone, samples and seeds.
        result: the number with its interval.
        p: the corrected p-value, "" where there is none.
        cost: what both sides compute for a sample.
        verdict: the verdict, with what it needs to be read.
    """

    question: str
    tested: str
    result: str
    p: str
    cost: str
    verdict: str


@dataclass(frozen=True)
class Outcome:
    """What the runs of a claim show.

    Attributes:
        lines: the rows of the overview.
        blocks: the paragraphs and tables of the claim's page.
    """

    lines: Sequence[Line]
    blocks: Sequence[str]


def tested(runs: Sequence[FinishedRun]) -> str:
    """Return dataset, backbone, samples and seeds of a row."""
    summary = runs[0].summary
    seeds = f"{len(runs)} seeds" if len(runs) > 1 else "1 seed"
    dataset = str(runs[0].card.protocol["dataset"]).partition(":")[0]
    return f"{dataset}, {summary['backbone']}, {summary['n']} samples, {seeds}"


def gflops(runs: Sequence[FinishedRun]) -> str:
    """Return the GFLOPs that a row computes for a sample."""
    return three_digits(float(np.mean([run.summary["cost"][COST] for run in runs])))


def rows_table(runs: Runs) -> list[list[str]]:
    """Return the cells of the table of all rows of a claim."""
    rows = [["row", "tested on", "top-1 %", "GFLOPs", "ms/sample"]]
    for name, some in runs.items():
        milliseconds = np.mean([run.summary["cost"]["ms_per_sample"] for run in some])
        rows.append(
            [
                name,
                tested(some),
                top1(some),
                gflops(some),
                f"{milliseconds:.1f}",
            ]
        )
    return rows
