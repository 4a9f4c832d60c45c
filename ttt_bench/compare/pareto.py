"""Which runs nobody beats at once in accuracy and cost."""

from collections.abc import Mapping, Sequence
from typing import Any

# What a sample costs, by the names of `run --format json`, with what stands on an axis.
COSTS = {
    "gflops_per_sample": "GFLOPs per sample",
    "peak_memory_mb": "peak memory, MB",
    "ms_per_sample": "ms per sample",
}


def front(rows: Sequence[Mapping[str, Any]], cost: str) -> list[int]:
    """Places of the rows on the Pareto front of top-1 against one cost, cheapest first.

    A row is on it if no other is at least as accurate and as cheap, and better in one of the two.
    """
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["cost"][cost], -rows[i]["top1"]))
    found: list[int] = []
    for place in order:
        if not found:
            found.append(place)
            continue
        row, best = rows[place], rows[found[-1]]
        if row["top1"] > best["top1"] or _point(row, cost) == _point(best, cost):
            found.append(place)
    return found


def _point(row: Mapping[str, Any], cost: str) -> tuple[float, float]:
    return float(row["cost"][cost]), float(row["top1"])
