"""Scoring a run in one pass over its records, which are read in parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from ttt_bench.api.records import Records
from ttt_bench.api.specs import MetricSpec
from ttt_bench.metrics.values import MetricError, guarded, mean_of, score, score_samples
from ttt_bench.registry import registry
from ttt_bench.runs.arrow import joined
from ttt_bench.runs.parts import (
    Part,
    all_logits,
    over_parts,
    read_without_logits,
    regrouped,
    without_logits,
)

# Logits that are scored together, of several small chunks or a piece of a large one: 8 MB of
# probabilities.
TOGETHER = 2**20

SampleValues = list[np.ndarray] | MetricError


@dataclass(frozen=True)
class Scores:
    """The value of every metric of one run.

    Attributes:
        records: the run's records, without logits in memory.
        values: the value of each metric, by name.
        failed: the metrics that failed or gave no score, each with its error.
    """

    records: Records
    values: dict[str, Any]
    failed: dict[str, MetricError]


def score_parts(parts: Sequence[Part], classes: int, revisited: Sequence[Part] = ()) -> Scores:
    """Read the records of a run and compute every metric.

    Each thread has the logits of a few chunks in memory, until the metrics that are `per_sample`
    have seen them. A metric that takes all logits by `Records.required_logits` reads them again,
    all at once.

    Args:
        parts: the parts of the records.
        classes: how many classes there are, as the card says.
        revisited: the parts of what came again at the end of a stream, see `Records.revisited`.

    Raises:
        UserError: a part is missing or damaged.
    """
    metrics = {name: item.spec for name, item in registry().metrics.items()}
    per_sample = {name: spec for name, spec in metrics.items() if spec.per_sample}
    records, samples = _score_all(parts, per_sample, classes)
    stored = records.classes is not None
    records = replace(records, classes=records.classes or classes)
    again = joined(read_without_logits(revisited)) if revisited else None
    whole = replace(
        guarded(records),
        load_logits=_reading(parts, records) if stored else None,
        revisited=None if again is None else guarded(again),
    )
    values: dict[str, Any] = {}
    failed: dict[str, MetricError] = {}
    for name, spec in metrics.items():
        try:
            if spec.per_sample:
                values[name] = _mean([some[name] for some in samples])
            else:
                values[name] = score(spec, whole)
        except MetricError as error:
            failed[name] = error
    return Scores(records, values, failed)


def _score_all(
    parts: Sequence[Part], metrics: Mapping[str, MetricSpec], classes: int
) -> tuple[Records, list[dict[str, SampleValues]]]:
    """Return all records without their logits, and the values of each metric for some after others.

    The records do not say how many classes there are where a part has no logits.
    """
    scored = over_parts(lambda some: _score_some(some, metrics, classes), parts)
    read = [part for some, _ in scored for part in some]
    stored = all(part.classes is not None for part in read)
    records = replace(joined(read), classes=read[0].classes if stored else None)
    return records, [samples for _, samples in scored]


def _score_some(
    parts: Iterator[Records], metrics: Mapping[str, MetricSpec], classes: int
) -> tuple[list[Records], dict[str, SampleValues]]:
    """Return parts without their logits, and the values of each metric for their samples.

    A metric that fails for some samples has its error in place of values.
    """
    read: list[Records] = []

    def noted() -> Iterator[Records]:
        for part in parts:
            read.append(without_logits(part))
            yield part

    results: dict[str, SampleValues] = {name: [] for name in metrics}
    samples = max(1, TOGETHER // max(1, classes))
    for records in regrouped(noted(), samples):
        for start in range(0, len(records), samples):
            some = guarded(records.between(start, start + samples))
            for name, spec in metrics.items():
                so_far = results[name]
                if isinstance(so_far, list):
                    try:
                        so_far.append(score_samples(spec, some))
                    except MetricError as error:
                        results[name] = error
    return read, results


def _mean(parts: Sequence[SampleValues]) -> Any:
    """Return the mean over the samples of all parts.

    Raises:
        MetricError: the metric failed for a part, or its mean is not finite.
    """
    for part in parts:
        if isinstance(part, MetricError):
            raise part
    return mean_of([values for part in parts if isinstance(part, list) for values in part])


def _reading(parts: Sequence[Part], records: Records) -> Callable[[], np.ndarray]:
    """Return a function that reads the logits of these records, once for all metrics."""
    return cache(partial(all_logits, parts, len(records), records.classes or 0))
