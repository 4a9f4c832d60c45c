"""Predictions keep the contract of `ttt_bench.api.contract`, by which the engine judges, too."""

from typing import TYPE_CHECKING

from ttt_bench.testing.declaration import check
from ttt_bench.testing.outcome import CheckFailed, Finding

if TYPE_CHECKING:
    from ttt_bench.testing.method import MethodUnderTest


@check(order=3)
def check_prediction_scores(method: "MethodUnderTest") -> Finding:
    """Check that all scores are finite, one for each class, after equally many steps."""
    _require(method, "scores")
    lengths = _step_counts(method)
    if len(lengths) > 1:
        raise CheckFailed(f"samples have different numbers of steps: {sorted(map(str, lengths))}")
    (length,) = lengths
    steps = "no steps" if length is None else f"{length} steps"
    return Finding(f"finite scores of {len(method.dataset.classes)} classes, {steps}")


@check(order=4)
def check_last_step_reported(method: "MethodUnderTest") -> Finding:
    """Check that the reported scores are those after the last step."""
    lengths = _step_counts(method) - {None}
    if not lengths:
        return Finding("does not iterate", "skipped")
    _require(method, "last step")
    return Finding(f"the last of {' or '.join(map(str, lengths))} steps is reported")


@check(order=5)
def check_predictions_kept(method: "MethodUnderTest") -> Finding:
    """Check that later samples do not overwrite what was returned for earlier ones."""
    from ttt_bench.testing.attempt import PredictionCopy

    run = method.forward_pass
    returned = [prediction for batch in run.returned for prediction in batch]
    for (name, copy), prediction in zip(run.named_predictions(), returned, strict=True):
        if difference := PredictionCopy.of(prediction).difference(copy):
            raise CheckFailed(f"a later sample changed the prediction of {name}: {difference}")
    return Finding("returned predictions stay as they were")


def _require(method: "MethodUnderTest", rule: str) -> None:
    """Refuse the first prediction that breaks a rule of the contract."""
    from ttt_bench.api.contract import violations

    classes = len(method.dataset.classes)
    for name, copy in method.forward_pass.named_predictions():
        for violation in violations(copy.prediction, classes):
            if violation.rule == rule:
                raise CheckFailed(f"{name}: {violation.text}")


def _step_counts(method: "MethodUnderTest") -> set[int | None]:
    steps = [copy.prediction.step_logits for _, copy in method.forward_pass.named_predictions()]
    return {None if scores is None else len(scores) for scores in steps}
