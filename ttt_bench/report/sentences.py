"""Two sentences on a table: what it says, and what it does not."""

from ttt_bench.compare.pairs import Table
from ttt_bench.compare.statistics import LEVEL


def sentences(table: Table) -> str:
    """Return what a table says of its rows, and what it does not say, in two sentences.

    Args:
        table: the table; the summaries of its rows are those of a comparison.
    """
    return f"{_says(table)} {_does_not_say(table)}"


def _says(table: Table) -> str:
    baselines = [row.summary.get("baseline") for row in table.rows]
    compared = [one for one in baselines if one and one["ci95"]]
    top = _highest(table)
    if not compared:
        return f"On {table.title} {top}."
    clear = [one["difference"] > 0 for one in compared if one["p_holm"] < LEVEL]
    names = {one["name"] for one in compared}
    to = names.pop() if len(names) == 1 else "the frozen model on its backbone"
    better, worse = sum(clear), len(clear) - sum(clear)
    verb = "is" if better == 1 else "are"
    return (
        f"On {table.title} {top}; of {len(compared)} rows {better} {verb} better than {to} by more "
        f"than noise, {worse} worse, and {len(compared) - len(clear)} cannot be told from it."
    )


def _highest(table: Table) -> str:
    """Return which rows have the highest top-1 as printed."""
    highest = max(f"{row.summary['top1']:5.1f}" for row in table.rows)
    best = [row for row in table.rows if f"{row.summary['top1']:5.1f}" == highest]
    if len(best) > 1:
        *others, last = (row.label for row in best)
        return f"{', '.join(others)} and {last} have the highest top-1, {highest.strip()} %"
    low, high = best[0].summary["ci95"]
    return (
        f"{best[0].label} has the highest top-1, {highest.strip()} % (95 % interval {low:.1f} to "
        f"{high:.1f})"
    )


def _does_not_say(table: Table) -> str:
    n = table.rows[0].summary["n"]
    several = sum(len(row.runs) > 1 for row in table.rows)
    if several == len(table.rows):
        seeds = "other data"
    elif several:
        seeds = "other data, or with other seeds where a row has one"
    else:
        seeds = "other data or with other seeds, as every row has one seed"
    return (
        f"It does not say that rows which cannot be told apart on these {n:,} samples are equal, "
        f"nor how they come out on {seeds}."
    )
