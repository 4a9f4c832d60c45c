"""Strategies that several properties share."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ttt_bench.api.errors import UserError

numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=8)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(max_size=5), json_values, max_size=5)
# What a JSON file can hold besides: lone surrogates, and numbers that are none.
strange_values = json_values | st.sampled_from(
    ["\ud800", float("nan"), float("inf"), 10**400, {"\udfff": 1}, [[[[[[]]]]]]]
)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or the `UserError` it raises; nothing else may come out of it."""
    try:
        return call()
    except UserError as error:
        return error


@st.composite
def fields(draw: st.DrawFn, classes: int = 6, finite: bool = True) -> dict[str, Any]:
    """Fields of Records of 1 to 12 samples: as the engine makes them, or of any floats there are.

    They are put together outside: the type checks of the tests draw from the global generator.
    """
    n, steps = draw(st.integers(1, 12)), draw(st.integers(0, 4))
    scores = st.floats(-50, 50, width=32) if finite else st.floats(width=32)
    logits = draw(npst.arrays(np.float32, (n, classes), elements=scores))
    with np.errstate(all="ignore"):
        shifted = np.exp(np.clip(logits - logits.max(axis=1, keepdims=True), -100, 0))
    a_class = st.integers(0, classes - 1)
    labels = npst.arrays(np.int64, n, elements=a_class)
    trajectory = draw(npst.arrays(np.int64, (n, steps), elements=a_class)) if steps else None
    if trajectory is not None:
        trajectory[:, -1] = logits.argmax(axis=1)
    return {
        "sample_id": draw(st.lists(st.text(max_size=6), min_size=n, max_size=n, unique=True)),
        "group": draw(st.lists(st.none() | st.text(max_size=6), min_size=n, max_size=n)),
        "label": draw(labels),
        "prediction": logits.argmax(axis=1),
        "confidence": (1 / shifted.sum(axis=1)).astype(np.float32),
        "unadapted_prediction": draw(st.none() | labels),
        "step_predictions": trajectory,
        "logits": logits,
        "seconds": draw(st.floats(0, 1e9)),
    }
