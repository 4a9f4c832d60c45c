"""Nothing but the pixels decides: not a label, not a name, not the order of the classes."""

import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench.testing.attempt import Outcome
from ttt_bench.testing.checks.independence import UNREPEATABLE
from ttt_bench.testing.fakes.label_leaks import Answers, Place
from ttt_bench.testing.method import Subject
from ttt_bench.testing.suite import CheckFailed, Finding

SAMPLES = 2
PLACES: dict[Place, str] = {
    "sample": "on the sample (label, target, path, entry, ...)",
    "image": "on the image (filename, info, label, ...)",
    "task": "on the task (labels, dataset, entries, ...)",
    "id": "in the sample's id",
}


def labels_unreachable(subject: Subject) -> Finding:
    """Labels and telling names within reach, right ones and wrong ones, change no prediction.

    The engine hands out none of them. This asks what the method would do if a day came when one
    slipped through.
    """
    classes = len(subject.dataset.classes)
    if classes < 2:
        return Finding("the dataset has a single class", skipped=True)
    if subject.unrepeatable:
        return UNREPEATABLE
    together: tuple[Place, ...] = ("sample", "image", "task")
    alone: tuple[Place, ...] = ("id",)
    for shift in (0, 1):
        answers = Answers(subject.dataset, subject.indices, shift)
        for places in (together, alone):
            if not _gap(subject, answers, places):
                continue
            for place in places:
                if gap := _gap(subject, answers, (place,)):
                    raise CheckFailed(
                        f"the prediction follows a label {PLACES[place]}: it differs in {gap}"
                    )
            raise CheckFailed(f"the prediction follows labels on {' and '.join(places)} together")
    return Finding(f"right and wrong labels within reach of {SAMPLES} samples: the same bits")


def class_order(subject: Subject) -> Finding:
    """Classes in another order get the same scores, in that order."""
    order = list(range(len(subject.dataset.classes)))[::-1]
    task, turned = subject.task(), subject.task(classes=order)
    trial = subject.trial(turned)
    if not trial.adapter.uses_backbone_classifier:
        return Finding("classifies by a head of its own, whose order is fixed", skipped=True)
    features = torch.randn(
        subject.backbone.feature_dim, generator=torch.Generator().manual_seed(0)
    ).to(task.device)
    if not _close(task.logits(features).cpu()[order], turned.logits(features).cpu()):
        return Finding("the backbone's rule has its classes in a fixed order", skipped=True)
    outcomes = trial.predict(subject.samples[:SAMPLES])
    for place, outcome in enumerate(outcomes):
        if list(outcome.logits.shape) != [len(order)]:
            raise CheckFailed(
                f"scores of shape {list(outcome.logits.shape)} for {len(order)} classes"
            )
        if not _close(subject.tour.of(place).logits[order], outcome.logits):
            if subject.tour.asked:
                return Finding("draws, perhaps for each class in its turn", skipped=True)
            raise CheckFailed(
                f"sample {place + 1}: with the classes in reverse order a class's score is another"
            )
    return Finding(f"{len(order)} classes in reverse order: the same score for each")


def _gap(subject: Subject, answers: Answers, places: tuple[Place, ...]) -> str:
    """How predictions with baits differ from those without."""
    task = subject.task()
    if "task" in places:
        answers.on_task(task)
    trial, chosen = subject.trial(task), subject.samples[:SAMPLES]
    baited = [answers.on_sample(place, sample, places) for place, sample in enumerate(chosen)]
    outcomes: list[Outcome] = []
    for sample, plain in zip(baited, chosen, strict=True):
        outcomes += trial.predict([sample], rng_ids=[plain.id])
    gaps = [outcome.difference(subject.tour.of(place)) for place, outcome in enumerate(outcomes)]
    return next((gap for gap in gaps if gap), "")


def _close(one: Float[Tensor, " classes"], other: Float[Tensor, " classes"]) -> bool:
    """But for rounding, which the order of a sum changes."""
    return torch.allclose(one.float(), other.float(), rtol=1e-3, atol=1e-3)
