"""Metrics and statistics: in their ranges, blind to the order of samples, true to definition."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.fuzz.values import fields
from ttt_bench.api.records import Records
from ttt_bench.compare.statistics import holm, paired, wilson
from ttt_bench.metrics import accuracy, calibration, steps
from ttt_bench.metrics.values import score
from ttt_bench.registry import registry


def mean(name: str) -> Callable[[Records], float]:
    """The metric of this name, which has a value for each sample."""
    return lambda records: score(registry().metrics.find(name).spec, records)


PERCENT = {
    "top1": accuracy.top1, "top5": mean("top5"), "error_rate": accuracy.error_rate,
    "mean_per_class": accuracy.mean_per_class, "ece": calibration.ece,
    "oracle_top1": steps.oracle_top1, "oracle_gap": steps.oracle_gap,
}  # fmt: skip
LOSSES = {"nll": mean("nll"), "brier": mean("brier")}
MANY = {"groups": accuracy.groups, "step_top1": steps.step_top1, "changed": steps.changed}


def close(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == other or one == pytest.approx(other, abs=1e-6)


@given(fields())
def test_metrics_are_in_their_ranges(drawn: dict[str, Any]):
    records = Records(**drawn)
    for name, metric in PERCENT.items():
        assert -1e-9 <= metric(records) <= 100 + 1e-9, name
    for name, metric in MANY.items():
        scores = metric(records) or []
        values = scores.values() if isinstance(scores, dict) else scores
        assert all(0 <= value <= 100 for value in values), name
    assert 0 <= LOSSES["brier"](records) <= 2 + 1e-9
    assert LOSSES["nll"](records) >= -1e-9
    assert accuracy.top1(records) + accuracy.error_rate(records) == pytest.approx(100)
    assert accuracy.top1(records) <= PERCENT["top5"](records) + 1e-9
    assert accuracy.top1(records) <= steps.oracle_top1(records) + 1e-9
    assert sum(share for share, _, _ in calibration.reliability(records)) == pytest.approx(1)
    if records.step_predictions is not None:
        assert steps.step_top1(records)[-1] == pytest.approx(accuracy.top1(records))


@given(fields(), st.randoms(use_true_random=False))
def test_the_order_of_samples_changes_nothing(drawn: dict[str, Any], random):
    records = Records(**drawn)
    names = random.sample(records.sample_id, len(records))
    shuffled = records.in_order_of(names)
    for name, metric in {**PERCENT, **MANY, **LOSSES}.items():
        assert close(metric(records), metric(shuffled)), name
    assert shuffled.in_order_of(records.sample_id).digest() == records.digest()


@given(fields(), st.randoms(use_true_random=False))
def test_the_numbers_of_classes_change_nothing(drawn: dict[str, Any], random):
    records = Records(**drawn)
    order = np.array(random.sample(range(6), 6))
    new_number = np.argsort(order)
    renumber = lambda values: None if values is None else new_number[values]  # noqa: E731
    other = Records(
        **{
            **drawn,
            "label": new_number[records.label],
            "prediction": new_number[records.prediction],
            "unadapted_prediction": renumber(records.unadapted_prediction),
            "step_predictions": renumber(records.step_predictions),
            "logits": records.logits[:, order],
        }
    )
    ties = any(len(set(row)) < 6 for row in records.logits.tolist())
    for name, metric in {**PERCENT, **MANY}.items():
        # The order of classes decides which of equal logits are among the five highest.
        if name != "top5" or not ties:
            assert close(metric(records), metric(other)), name


right = npst.arrays(bool, st.integers(1, 60))


@given(right)
def test_wilson_holds_the_share_and_narrows(samples: np.ndarray):
    low, high = wilson(samples)
    share = 100 * samples.mean()
    assert -1e-9 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 100 + 1e-9
    many = wilson(np.tile(samples, 4))
    assert many[1] - many[0] < high - low
    mirrored = wilson(~samples)
    assert mirrored == pytest.approx([100 - high, 100 - low])


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(*[npst.arrays(bool, n)] * 2)))
def test_a_pair_is_the_same_from_both_sides(pair: tuple[np.ndarray, np.ndarray]):
    left, right = pair
    (forward,), (backward,) = paired(np.stack([left, right])), paired(np.stack([right, left]))
    assert forward["difference"] == pytest.approx(-backward["difference"])
    assert forward["p_mcnemar"] == pytest.approx(backward["p_mcnemar"])
    assert (forward["wrong_to_right"], forward["right_to_wrong"]) == (
        backward["right_to_wrong"],
        backward["wrong_to_right"],
    )
    assert 0 <= forward["p_mcnemar"] <= 1
    assert forward["ci95"][0] - 1e-9 <= forward["difference"] <= forward["ci95"][1] + 1e-9
    assert forward["difference"] == pytest.approx(100 * (left.mean() - right.mean()))
    if (left == right).all():
        assert forward["ci95"] == [0, 0]
        assert forward["p_mcnemar"] == 1


@given(st.lists(st.floats(0, 1), max_size=20), st.randoms(use_true_random=False))
def test_holm_corrects_upwards_and_in_order(p_values: list[float], random):
    corrected = holm(p_values)
    assert len(corrected) == len(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= 1
        assert q <= min(1, p * len(p_values)) or any(other < p for other in p_values)
    ranked = [q for _, q in sorted(zip(p_values, corrected, strict=True))]
    assert ranked == sorted(ranked)
    if p_values:
        assert min(corrected) == pytest.approx(min(1, min(p_values) * len(p_values)))
    order = random.sample(range(len(p_values)), len(p_values))
    assert holm([p_values[i] for i in order]) == [corrected[i] for i in order]
