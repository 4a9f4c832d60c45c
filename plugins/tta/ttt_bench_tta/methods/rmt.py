"""RMT: a robust mean teacher, contrastive learning with prototypes, and replayed training images.

Paper: Döbler, Marsden and Yang 2023, Robust Mean Teacher for Continual and Gradual Test-Time
    Adaptation (CVPR 2023, arXiv 2211.13081), section 3.
Code: mariodoebler/test-time-adaptation, rmt.py (MIT licence), by the authors.
Kind: stream. All weights and biases learn, on the batch's own statistics. It sees labelled training
    images before and during the test.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy
from ttt_bench_tta.contrast import ContrastAdapter, ContrastConfig, contrastive
from ttt_bench_tta.losses import symmetric_cross_entropy
from ttt_bench_tta.methods.cotta import average, configure
from ttt_bench_tta.optimizers import descend
from ttt_bench_tta.source import TrainingBatches

Pixels = Float[Tensor, "batch 3 side side"]
Labelled = tuple[Float[Tensor, "images 3 side side"], Int[Tensor, " images"]]


class RmtConfig(ContrastConfig):
    """The paper's values for ImageNet-C (section 4)."""

    teacher_momentum: float = Field(
        0.999, ge=0, le=1, description="alpha: weight of the past in the teacher's average"
    )
    source_weight: float = Field(
        1.0, ge=0, description="lambda_CE: weight of replayed training images"
    )
    warmup_samples: int = Field(
        50_000, ge=0, description="training images for the warm-up, counted as often as they come"
    )


@dataclass(frozen=True)
class Weights:
    """The settings of a step.

    Attributes:
        contrast: the weight of the contrastive loss.
        source: the weight of the cross entropy of training images.
        temperature: the temperature of the contrast.
    """

    contrast: float
    source: float
    temperature: float


def warm_up(
    student: WorkingCopy,
    teacher: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    batch: Callable[[int], Pixels],
    steps: int,
    momentum: float,
) -> None:
    """Let student and teacher agree on training images, at a rate that rises to its full value.

    Args:
        student: the model that learns, in place.
        teacher: the averaged model.
        optimizer: the optimizer of the student.
        batch: returns the training images of a step.
        steps: the number of steps.
        momentum: the weight of the past in the teacher's average.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (step + 1) / steps
        pixels = batch(step)
        with torch.no_grad():
            target = teacher(pixels)
        descend(symmetric_cross_entropy(student(pixels), target).mean(), optimizer)
        average(teacher, student, momentum)


def learn(
    student: WorkingCopy,
    teacher: WorkingCopy,
    projector: nn.Module,
    optimizer: torch.optim.Optimizer,
    pixels: Pixels,
    augment: Callable[[Pixels], Pixels],
    prototypes: Float[Tensor, "prototypes dim"],
    labelled: Labelled | None,
    weights: Weights,
) -> Float[Tensor, "batch classes"]:
    """Take a step of the student, and return the sum of both models' logits before it.

    Args:
        student: the model that learns, in place.
        teacher: the averaged model.
        projector: maps features to the space of the contrast, and learns too.
        optimizer: the optimizer of student and projector.
        pixels: the images.
        augment: makes an augmented copy of the batch.
        prototypes: the mean features of the classes.
        labelled: training images and their classes, None to leave them out.
        weights: the settings.
    """
    features, augmented = student.features(pixels), student.features(augment(pixels))
    logits = student.classify(features)
    with torch.no_grad():
        target = teacher(pixels)
    agreement = symmetric_cross_entropy(logits, target)
    agreement = agreement + symmetric_cross_entropy(student.classify(augmented), target)
    contrast = contrastive(projector, prototypes, features, augmented, weights.temperature)
    loss = agreement.mean() / 2 + weights.contrast * contrast
    if labelled is not None:
        loss = loss + weights.source * F.cross_entropy(student(labelled[0]), labelled[1])
    descend(loss, optimizer)
    return logits.detach() + target


class Rmt(ContrastAdapter[RmtConfig]):
    """`rmt`: a student and its teacher, both of which predict.

    Attributes:
        teacher: the average of the students.
        next_batch: the batch of training images that comes next.
    """

    Config = RmtConfig
    name = "rmt"

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        config = self.config
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        steps = config.warmup_samples // config.batch_size
        warm = copy.deepcopy(task.once("warm-up", lambda: self.warmed_up(steps)))
        self.model.load_state_dict(warm["student"])
        self.teacher.load_state_dict(warm["teacher"])
        self.optimizer.load_state_dict(warm["optimizer"])
        self.next_batch = steps % len(self.training_batches)

    @override
    def choose_parameters(self) -> None:
        configure(self.model)

    @property
    def training_batches(self) -> TrainingBatches:
        """All training images in batches."""
        return TrainingBatches(self.task, self.config.batch_size)

    def warmed_up(self, steps: int) -> dict[str, Any]:
        """Return student, teacher and optimizer after the warm-up; the same for every stream."""
        batches = self.training_batches
        with self.task.forward_pass():
            warm_up(
                self.model,
                self.teacher,
                self.optimizer,
                lambda step: batches.pixels(step % len(batches)),
                steps,
                self.config.teacher_momentum,
            )
        states = {
            "student": self.model.state_dict(),
            "teacher": self.teacher.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        return copy.deepcopy(states)

    def labelled(self) -> Labelled | None:
        """Return the next batch of training images, None where they are left out."""
        if self.config.source_weight == 0:
            return None
        batches, number = self.training_batches, self.next_batch
        self.next_batch = (number + 1) % len(batches)
        return batches.pixels(number), batches.labels(number)

    @override
    def predict(self, pixels: Pixels, rngs: Sequence[SampleRNG]) -> Float[Tensor, "batch classes"]:
        config = self.config
        self.draw_once(rngs[0])
        logits = learn(
            self.model,
            self.teacher,
            self.projector,
            self.optimizer,
            pixels,
            self.augmentation.drawn_by(rngs[0]),
            self.prototypes,
            self.labelled(),
            Weights(config.contrast_weight, config.source_weight, config.temperature),
        )
        average(self.teacher, self.model, config.teacher_momentum)
        return logits
