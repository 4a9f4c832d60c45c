"""Judging metrics: what one gets, and what it may give back."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ttt_bench.api.errors import described
from ttt_bench.api.records import MissingLogitsError, Records
from ttt_bench.api.specs import MetricSpec
from ttt_bench.metrics.accuracy import percent

ALLOWED = "it must give a number, numbers by name, a list of numbers, or None"
ALLOWED_PER_SAMPLE = "it must give an array of one number for each sample"


class MetricError(Exception):
    """A metric that failed, or gave something that is no score; one line says what."""


def score(metric: MetricSpec, records: Records) -> Any:
    """Load a metric, compute it, and return its value as JSON holds it.

    Args:
        metric: the metric's spec.
        records: the records of a run, see `guarded`.

    Raises:
        MetricError: the metric failed or gave something that is no score.
    """
    if metric.per_sample:
        return mean_of([score_samples(metric, records)])
    with _named_errors():
        return judge(metric.load()(records))


def score_samples(metric: MetricSpec, records: Records) -> np.ndarray:
    """Load a metric that gives a value for each sample, and return the values, `[N]`.

    Args:
        metric: the metric's spec, whose `per_sample` is true.
        records: a part of a run's records, see `guarded`.

    Raises:
        MetricError: the metric failed or gave something else.
    """
    with _named_errors():
        values = metric.load()(records)
    if not isinstance(values, np.ndarray):
        raise MetricError(f"gave {_what(values)}; {ALLOWED_PER_SAMPLE}")
    if values.shape != (len(records),) or values.dtype.kind not in "biuf":
        raise MetricError(
            f"gave an array of shape {values.shape} and type {values.dtype} for {len(records)} "
            f"samples; {ALLOWED_PER_SAMPLE}"
        )
    return values


def mean_of(parts: Sequence[np.ndarray]) -> Any:
    """Return the mean of the values of all parts; of booleans the share that is true, in percent.

    Raises:
        MetricError: it is not finite.
    """
    values = np.concatenate(parts)
    with _named_errors():
        return judge(percent(values) if values.dtype == bool else values.mean(dtype=np.float64))


def guarded(records: Records) -> Records:
    """Return the same records with names in tuples and arrays read-only.

    No metric can then change what others get.
    """
    changed: dict[str, Any] = {}
    for one in fields(records):
        value = getattr(records, one.name)
        if isinstance(value, np.ndarray):
            changed[one.name] = value.view()
            changed[one.name].setflags(write=False)
        elif isinstance(value, list):
            changed[one.name] = tuple(value)
    return replace(records, **changed)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn whatever a metric raises into a `MetricError`."""
    try:
        yield
    # Ctrl-C is the user's. Everything else is the metric's, even sys.exit.
    except (KeyboardInterrupt, MetricError):
        raise
    except MissingLogitsError as error:
        raise MetricError(str(error)) from error
    except BaseException as error:
        raise MetricError(f"failed: {described(error)}") from error


def judge(value: Any) -> Any:
    """Return a metric's value with numpy's numbers and arrays as Python's.

    Raises:
        MetricError: it is no number, numbers by name, list of numbers or None.
    """
    if isinstance(value, np.ndarray) and value.ndim < 2:
        value = value.tolist()
    if isinstance(value, Mapping):
        return {_name(key): _number(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_number(inner) for inner in value]
    return _number(value)


def _name(key: Any) -> str:
    if not isinstance(key, str):
        raise MetricError(f"named a number by {_what(key)}; {ALLOWED}")
    return str(key)


def _number(value: Any) -> int | float | None:
    if value is None:
        return None
    if isinstance(value, np.integer):
        value = int(value)
    if isinstance(value, np.floating):
        wide, value = value, float(value)
        if value != wide and not np.isnan(wide):
            raise MetricError("gave a number that no float holds exactly; it must give a float")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MetricError(f"gave {_what(value)}; {ALLOWED}")
    try:
        if math.isfinite(value):
            return int(value) if isinstance(value, int) else float(value)
    # An integer beyond every float.
    except OverflowError:
        pass
    raise MetricError("gave a number that is not finite; where there is none, it must give None")


def _what(value: Any) -> str:
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"a value of type {name}"
