"""Judging metrics: what one gets, and what it may give back."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ttt_bench.api.errors import described
from ttt_bench.api.records import MissingLogitsError, Records

ALLOWED = "it must give a number, numbers by name, a list of numbers, or None"


class MetricError(Exception):
    """A metric that failed, or gave something that is no score; one line says what."""


def score(metric: Callable[[], Callable[[Records], Any]], records: Records) -> Any:
    """Load a metric, compute it, and return its value as JSON holds it.

    The metric gets copies of the lists and read-only arrays, so that it cannot change what others
    get.

    Args:
        metric: loads the metric's function.
        records: the records of a run.

    Raises:
        MetricError: the metric failed or gave something that is no score.
    """
    try:
        return judge(metric()(_protected(records)))
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


def _protected(records: Records) -> Records:
    """Return the same records with lists of their own and read-only views of the arrays."""
    changed: dict[str, Any] = {}
    for one in fields(records):
        value = getattr(records, one.name)
        if isinstance(value, np.ndarray):
            changed[one.name] = value.view()
            changed[one.name].setflags(write=False)
        elif isinstance(value, list):
            changed[one.name] = list(value)
    return replace(records, **changed)
