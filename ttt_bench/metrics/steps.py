"""What happens over the steps of methods that iterate."""

from ttt_bench.api.records import Records
from ttt_bench.metrics.accuracy import percent


def oracle_top1(records: Records) -> float:
    """Share of samples that were right after at least one step, in percent.

    An upper bound that peeks at the labels: no rule that sees only the image can reach it by
    right. For a method that does not iterate it equals top-1.
    """
    return percent(records.correct_at_any_step)


def oracle_gap(records: Records) -> float:
    """How much choosing the step by the labels would gain, in percentage points."""
    return oracle_top1(records) - percent(records.correct)


def step_top1(records: Records) -> list[float]:
    """Top-1 after each step, in percent; empty for a method that does not iterate."""
    if records.step_predictions is None:
        return []
    right = records.step_predictions == records.label[:, None]
    return [percent(column) for column in right.T]


def changed(records: Records) -> dict[str, float] | None:
    """What the adaptation changed against the model it started from, in percent of the samples.

    `share` of predictions that differ before the first step and after the last; `helped`, from
    wrong to right; `harmed`, from right to wrong. None for a method that adapts nothing.
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
