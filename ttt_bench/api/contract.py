"""The prediction contract: what every method's predictions must be. Engine and kit both use it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ttt_bench.api.errors import UserError
from ttt_bench.api.sample import Prediction

Rule = Literal["count", "type", "scores", "last step"]


@dataclass(frozen=True)
class Violation:
    """One way in which a prediction breaks the contract.

    Attributes:
        rule: the rule that is broken.
        text: what is wrong, without naming the method or the sample.
    """

    rule: Rule
    text: str


def count_violation(predictions: Sequence[Any], samples: int) -> Violation | None:
    """Say whether there is one `Prediction` for every sample, and what is wrong where not."""
    if len(predictions) != samples:
        return Violation(
            "count",
            f"returned {len(predictions)} predictions for {samples} samples; `adapt` must return "
            "one for each",
        )
    for prediction in predictions:
        if not isinstance(prediction, Prediction):
            return Violation("type", f"returned {type(prediction).__name__}, not Prediction")
    return None


def violations(prediction: Prediction, classes: int) -> Iterator[Violation]:
    """Yield every way in which one prediction breaks the contract.

    Scores are finite floating point tensors of the task's classes. The scores after the last step
    are the reported ones, bit for bit.

    Args:
        classes: how many the task has.
    """
    sound = True
    for name, scores in vars(prediction).items():
        if scores is None and name != "logits":
            continue
        if not isinstance(scores, Tensor):
            yield Violation("type", f"{name} is {type(scores).__name__}, no tensor")
            sound = False
        elif problem := _score_problem(name, scores, classes):
            yield Violation("scores", problem)
            sound = sound and list(scores.shape[-1:]) == [classes] and scores.numel() > 0
    steps = prediction.step_logits
    if not sound or steps is None:
        return
    last, reported = steps[-1], prediction.logits
    if not torch.equal(last.nan_to_num(), reported.nan_to_num()):
        gap = float((last.double() - reported.double()).abs().max())
        yield Violation(
            "last step",
            f"reports other logits than after its last step (by {gap:.2g}); the last step is the "
            "reported one",
        )


def _score_problem(name: str, scores: Tensor, classes: int) -> str:
    expected = [len(scores), classes] if name == "step_logits" and scores.ndim else [classes]
    if list(scores.shape) != expected or 0 in expected:
        return f"{name} has shape {list(scores.shape)}; the task needs {expected}"
    if not scores.is_floating_point():
        return f"{name} is {scores.dtype}; scores are floating point"
    if not bool(torch.isfinite(scores).all()):
        return f"{name} is not finite"
    return ""


def require_contract(predictions: Sequence[Any], names: Sequence[str], classes: int) -> None:
    """Refuse predictions that break the contract.

    Args:
        predictions: what `adapt` returned.
        names: the ids of the samples.
        classes: how many the task has.

    Raises:
        UserError: the first violation, with the sample's id.
    """
    if problem := count_violation(predictions, len(names)):
        raise UserError(problem.text)
    for name, prediction in zip(names, predictions, strict=True):
        for problem in violations(prediction, classes):
            raise UserError(f"sample {name}: {problem.text}")
