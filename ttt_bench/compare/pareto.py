"""The Pareto front of accuracy against cost."""

from collections.abc import Mapping, Sequence
from typing import Any

# The costs of a sample by their names in `run --format json`, each with the label of its axis.
COSTS = {
    "gflops_per_sample": "GFLOPs per sample",
    "peak_memory_mb": "peak memory, MB",
    "ms_per_sample": "ms per sample",
}


def front(rows: Sequence[Mapping[str, Any]], cost: str) -> list[int]:
    """Return the indices of the rows on the Pareto front of top-1 against one cost, cheapest first.

    A row is on the front if no other is at least as accurate and as cheap, and better in one.
    """
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["cost"][cost], -rows[i]["top1"]))
    best: list[int] = []
    for index in order:
        row, last = rows[index], rows[best[-1]] if best else None
        if last is None or row["top1"] > last["top1"] or _point(row, cost) == _point(last, cost):
            best.append(index)
    return best


def _point(row: Mapping[str, Any], cost: str) -> tuple[float, float]:
    return float(row["cost"][cost]), float(row["top1"])
