"""Inputs that a dataset may hold some day; the sample after them is predicted as ever."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ttt_bench.api.backbone import Backbone
from ttt_bench.api.errors import UserError
from ttt_bench.api.sample import Sample
from ttt_bench.testing.attempt import Trial, same
from ttt_bench.testing.fakes.spy import lend
from ttt_bench.testing.method import Subject
from ttt_bench.testing.suite import CheckFailed, Finding


def black_image(subject: Subject) -> Finding:
    """Every pixel zero: variances, ranges and entropies that are zero, too."""
    image = Image.new("RGB", subject.samples[0].image.size)
    return _image(subject, Sample("black", image), "a black image")


def one_pixel_image(subject: Subject) -> Finding:
    """The smallest image there is."""
    return _image(subject, Sample("pixel", Image.new("RGB", (1, 1), "orange")), "a 1x1 image")


def single_class(subject: Subject) -> Finding:
    """A task of one class."""
    try:
        (outcome,) = subject.trial(subject.task(classes=[0])).predict(subject.samples[:1])
    except UserError as refusal:
        return Finding(f"refused in one line: {refusal}")
    shape = list(outcome.logits.shape)
    if shape != [1]:
        raise CheckFailed(f"a task of a single class got scores of shape {shape}")
    if not outcome.finite():
        raise CheckFailed("a task of a single class got scores that are not finite")
    return Finding("one finite score")


def nan_feature(subject: Subject) -> Finding:
    """Whatever a method makes of a feature that is no number, the next sample feels nothing."""
    sick = Sick()
    trial = subject.trial(subject.task(backbone=sick.backbone(subject.fresh_backbone())))
    sick.now = True
    try:
        (outcome,) = trial.predict(subject.samples[1:2])
        said = "predicted finitely" if outcome.finite() else "NaN scores, which the engine refuses"
    except (UserError, CheckFailed) as error:
        return Finding(f"stops: {error}")
    sick.now = False
    return Finding(f"{said}; {_afterwards(subject, trial, 'a NaN feature')}")


class Sick:
    """Makes a backbone give NaN as long as asked for.

    Attributes:
        now: whether it does.
    """

    now = False

    def backbone(self, healthy: Backbone) -> Backbone:
        """The same backbone, sick while `now` says so: its pixels, and with them all features."""

        def overhear(name: str, value: Any) -> Any:
            if name not in ("preprocess", "encode_image"):
                return value

            def computed(*arguments: Any, **named: Any) -> Tensor:
                result = value(*arguments, **named)
                return torch.full_like(result, torch.nan) if self.now else result

            return computed

        return lend(healthy, overhear)


def _image(subject: Subject, sample: Sample, what: str) -> Finding:
    trial = subject.trial()
    try:
        (outcome,) = trial.predict([sample])
    except UserError as refusal:
        return Finding(f"refused in one line: {refusal}")
    if not outcome.finite():
        raise CheckFailed(f"{what} got scores that are not finite")
    return Finding(f"finite scores; {_afterwards(subject, trial, what)}")


def _afterwards(subject: Subject, trial: Trial, what: str) -> str:
    """Whether a sample is predicted as ever; of a method that always leaks it is no news."""
    first, *_, again = subject.tour.outcomes
    if subject.unrepeatable or again.difference(first):
        return "what is left of it is not to be told here; see a-b-a and same-seed-same-result"
    (outcome,) = trial.predict(subject.samples[:1])
    same(outcome, first, f"sample 1 after {what}")
    return "the next sample as ever"
