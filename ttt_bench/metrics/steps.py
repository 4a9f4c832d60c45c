"""Metrics of the step trajectory, for methods that iterate."""

from ttt_bench.api.records import Records
from ttt_bench.metrics.accuracy import percent


def oracle_top1(records: Records) -> float:
    """Return the share of samples that were right after at least one step, in percent.

    This is an upper bound that peeks at the labels, and no result. For a method that does not
    iterate it equals top-1.
    """
    return percent(records.correct_at_any_step)


def oracle_gap(records: Records) -> float:
    """Return what choosing the step by the labels would gain, in percentage points."""
    return oracle_top1(records) - percent(records.correct)


def step_top1(records: Records) -> list[float]:
    """Return the top-1 after each step, in percent; nothing for a method that does not iterate."""
    if records.step_predictions is None:
        return []
    right = records.step_predictions == records.label[:, None]
    return [percent(column) for column in right.T]


def changed(records: Records) -> dict[str, float] | None:
    """Return the share of samples whose prediction the adaptation changed, in percent.

    `share`: the prediction after the last step differs from that before the first; `helped`: it
    went from wrong to right; `harmed`: from right to wrong. None for a method that adapts nothing.
    """
    before = records.unadapted_prediction
    if before is None:
        return None
    was_right, is_right = before == records.label, records.correct
    return {
        "share": percent(before != records.prediction),
        "helped": percent(~was_right & is_right),
        "harmed": percent(was_right & ~is_right),
    }
