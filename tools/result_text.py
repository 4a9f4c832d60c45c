"""Text of the pages that `make_results.py` writes."""

import textwrap
from collections.abc import Sequence

from ttt_bench.compare.read import FinishedRun

WIDTH = 100


def wrapped(text: str, bullet: str = "") -> str:
    """Return a paragraph in lines of the files' width."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """Return a table in Markdown, of which the first row is the heading.

    Args:
        rows: the cells.
        numbers: whether all columns but the first are numbers, which stand at the right.
    """
    heading, *others = ("| " + " | ".join(row) + " |" for row in rows)
    rule = "| --- |" + (" ---: |" if numbers else " --- |") * (len(rows[0]) - 1)
    return "\n".join([heading, rule, *others])


def signed(points: float) -> str:
    """Return a difference in points, without a sign of minus at zero."""
    return f"{round(points, 1) + 0.0:+.1f}"


def time_of(runs: Sequence[FinishedRun]) -> str:
    """Return how long the methods computed, and on what."""
    seconds = sum(run.records.seconds for run in runs)
    time = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
    machines = {
        (environment["device"], environment["threads"])
        for environment in (run.manifest["environment"] for run in runs)
    }
    where = " and ".join(
        f"a CPU with {threads} {'thread' if threads == 1 else 'threads'}"
        if device == "cpu"
        else device
        for device, threads in sorted(machines)
    )
    return f"The methods computed for {time} on {where}."
