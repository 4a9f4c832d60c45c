"""The prediction contract: what every method's predictions must be. Engine and kit both use it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

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


def stored(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return predictions as records hold them: float32, on the CPU, cut off from any graph.

    Everything is derived from these values, so that a step, the confidence and the reported class
    never differ by rounding alone. Scores leave a GPU together, since each transfer waits for it.
    """
    columns = [
        _stored([prediction.logits for prediction in predictions]),
        _stored([prediction.step_logits for prediction in predictions]),
        _stored([prediction.unadapted_logits for prediction in predictions]),
    ]
    return [
        Prediction(cast(Tensor, logits), steps, unadapted)
        for logits, steps, unadapted in zip(*columns, strict=True)
    ]


def _stored(scores: Sequence[Tensor | None]) -> list[Tensor | None]:
    given = [one.detach() for one in scores if one is not None]
    if len({(one.shape, one.device, one.dtype) for one in given}) == 1:
        given = torch.stack(given).to("cpu", torch.float32).unbind()
    moved = iter([one.to("cpu", torch.float32) for one in given])
    return [None if one is None else next(moved) for one in scores]


def count_violation(predictions: Any, samples: int) -> Violation | None:
    """Say whether there is one `Prediction` for every sample, and what is wrong where not."""
    if not isinstance(predictions, Sequence) or isinstance(predictions, str | bytes):
        return Violation(
            "type",
            f"returned {type(predictions).__name__}; `adapt` must return a list of predictions",
        )
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

    Scores are floating point tensors of the task's classes, finite in float32. The scores after the
    last step are the reported ones, bit for bit.

    Args:
        prediction: what `adapt` returned for a sample.
        classes: how many the task has.
    """
    broken = list(_form_violations(prediction, classes))
    yield from broken
    if broken:
        return
    for name, scores in _scores(prediction):
        if not bool(torch.isfinite(scores.detach().float()).all()):
            yield Violation("scores", f"{name} is not finite in float32")
    logits, steps = prediction.logits, prediction.step_logits
    if steps is None:
        return
    last, reported = steps[-1].detach().float(), logits.detach().float()
    if not torch.equal(last.nan_to_num(), reported.to(last.device).nan_to_num()):
        gap = float((last.double() - reported.to(last.device).double()).abs().max())
        yield Violation(
            "last step",
            f"reports other logits than after its last step (by up to {gap:.2g}); the last step is "
            "the reported one",
        )


def _form_violations(prediction: Prediction, classes: int) -> Iterator[Violation]:
    """Yield what is wrong with types and shapes, without a look at the values."""
    for name, scores in _scores(prediction):
        if problem := _type_problem(name, scores):
            yield Violation("type", problem)
        elif problem := _shape_problem(name, scores, classes):
            yield Violation("scores", problem)


def _scores(prediction: Prediction) -> Iterator[tuple[str, Tensor]]:
    """Yield the scores that a prediction has, by name; the logits may not be missing."""
    for name, value in vars(prediction).items():
        if value is not None or name == "logits":
            yield name, cast(Tensor, value)


def _type_problem(name: str, scores: Any) -> str:
    if not isinstance(scores, Tensor):
        return f"{name} is {type(scores).__name__}, not a tensor"
    if scores.is_meta or scores.layout is not torch.strided:
        return f"{name} is a tensor without plain values ({scores.device}, {scores.layout})"
    if not scores.is_floating_point():
        return f"{name} is {scores.dtype}, not floating point"
    return ""


def _shape_problem(name: str, scores: Tensor, classes: int) -> str:
    steps = name == "step_logits"
    expected = [*scores.shape[:1], classes] if steps else [classes]
    if list(scores.shape) != expected or 0 in expected or (steps and scores.ndim != 2):
        owed = f"[steps, {classes}], at least one step" if steps else f"[{classes}]"
        return f"{name} has shape {list(scores.shape)}; the task needs {owed}"
    return ""


def judged(predictions: Any, names: Sequence[str], classes: int) -> list[Prediction]:
    """Return predictions as records hold them, after the contract was checked.

    Args:
        predictions: what `adapt` returned.
        names: the ids of the samples.
        classes: how many the task has.

    Raises:
        UserError: a prediction breaks the contract; the first violation, with the sample's id.
    """
    if problem := count_violation(predictions, len(names)):
        raise UserError(problem.text)
    for name, prediction in zip(names, predictions, strict=True):
        for problem in _form_violations(prediction, classes):
            raise UserError(f"sample {name}: {problem.text}")
    kept = stored(predictions)
    for name, prediction in zip(names, kept, strict=True):
        for problem in violations(prediction, classes):
            raise UserError(f"sample {name}: {problem.text}")
    for name, prediction in zip(names, kept, strict=True):
        if form(prediction) != form(kept[0]):
            raise UserError(
                f"sample {name}: has {form(prediction)}, another sample {form(kept[0])}; every "
                "sample needs the same"
            )
    return kept


def form(prediction: Prediction) -> str:
    """Return in words which parts a prediction has, which all samples of a run have in common."""
    steps = prediction.step_logits
    text = "no steps" if steps is None else f"{len(steps)} steps"
    return text + ("" if prediction.unadapted_logits is None else " and unadapted logits")
