"""What a prediction looks like."""

import torch
from torch import Tensor

from ttt_bench.testing.method import Subject
from ttt_bench.testing.suite import CheckFailed, Finding


def trajectory(subject: Subject) -> Finding:
    """Finite scores for every class, of the reported step and of every other."""
    classes = len(subject.dataset.classes)
    lengths = set()
    for place, outcome in zip(subject.tour.order, subject.tour.outcomes, strict=True):
        for name, scores in outcome.scores.items():
            wanted = [len(scores), classes] if name == "step_logits" else [classes]
            _check(scores, wanted, f"{name} of sample {place + 1}")
        steps = outcome.scores.get("step_logits")
        lengths.add(None if steps is None else len(steps))
    if len(lengths) > 1:
        raise CheckFailed(f"samples have different numbers of steps: {sorted(map(str, lengths))}")
    (length,) = lengths
    what = "no steps" if length is None else f"{length} steps"
    return Finding(f"finite scores of {classes} classes, {what}")


def _check(scores: Tensor, wanted: list[int], what: str) -> None:
    if list(scores.shape) != wanted or 0 in wanted:
        raise CheckFailed(f"the {what} have shape {list(scores.shape)}; {wanted} is wanted")
    if not scores.is_floating_point():
        raise CheckFailed(f"the {what} are {scores.dtype}; scores are floating point")
    if not bool(torch.isfinite(scores).all()):
        raise CheckFailed(f"the {what} are not finite")


def last_step_reported(subject: Subject) -> Finding:
    """The reported scores are those after the last step."""
    length = 0
    for place, outcome in zip(subject.tour.order, subject.tour.outcomes, strict=True):
        if "step_logits" not in outcome.scores or not len(outcome.scores["step_logits"]):
            continue
        length, last = len(outcome.scores["step_logits"]), outcome.scores["step_logits"][-1]
        if not torch.equal(last.nan_to_num(), outcome.logits.nan_to_num()):
            gap = float((last.double() - outcome.logits.double()).abs().max())
            raise CheckFailed(
                f"sample {place + 1} reports other scores than after its last step (by {gap:.2g})"
            )
    if not length:
        return Finding("does not iterate", skipped=True)
    return Finding(f"the last of {length} steps is what is reported")


def predictions_kept(subject: Subject) -> Finding:
    """What was returned is not written to when later samples come."""
    for place, said, now in zip(
        subject.tour.order, subject.tour.outcomes, subject.tour.kept, strict=True
    ):
        if gap := now.difference(said):
            raise CheckFailed(
                f"the prediction of sample {place + 1} was changed by a later sample: {gap}"
            )
    return Finding("returned predictions stay as they were")
