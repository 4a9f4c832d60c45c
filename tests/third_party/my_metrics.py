"""Three metrics, one for each kind of value that a metric returns."""

from collections import Counter

import numpy as np

from ttt_bench import MetricSpec, Records, hookimpl


def worst_group(records: Records) -> float | None:
    """Return the lowest top-1 of a corruption or domain, in percent."""
    groups: dict[str, list[bool]] = {}
    for group, right in zip(records.group, records.correct.tolist(), strict=True):
        if group is not None:
            groups.setdefault(group, []).append(right)
    return min((100 * float(np.mean(right)) for right in groups.values()), default=None)


def mistakes(records: Records) -> dict[str, float]:
    """Return the number of wrong predictions in each group."""
    pairs = zip(records.group, records.correct, strict=True)
    wrong = Counter(str(group) for group, right in pairs if not right)
    return {name: float(wrong[name]) for name in sorted(set(map(str, records.group)))}


def entropy(records: Records) -> np.ndarray:
    """Return for each sample the entropy of its probabilities, in nats."""
    p = records.probabilities
    return -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(axis=1)


@hookimpl
def ttt_bench_metrics() -> list[MetricSpec]:
    """Return the metrics of this file."""
    return [
        MetricSpec(
            name="worst_group",
            summary="the lowest top-1 of a corruption or domain, percent",
            code="my_metrics:worst_group",
        ),
        MetricSpec(
            name="mistakes",
            summary="the number of wrong predictions in each group",
            code="my_metrics:mistakes",
            shown_in="elsewhere",
        ),
        MetricSpec(
            name="entropy",
            summary="mean entropy of the predictions, nats",
            code="my_metrics:entropy",
            per_sample=True,
        ),
    ]
