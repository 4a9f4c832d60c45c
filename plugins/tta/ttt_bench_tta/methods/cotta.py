"""CoTTA: a student that learns from an averaged teacher, and is restored at random.

Paper: Wang, Fink, Van Gool and Dai 2022, Continual Test-Time Domain Adaptation (CVPR 2022, arXiv
    2203.13591), section 3 and algorithm 1.
Code: qinenergy/cotta (MIT licence).
Kind: stream. All weights and biases learn, on the batch's own statistics.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.augmentation import Augmentation
from ttt_bench_tta.losses import cross_entropy, symmetric_cross_entropy
from ttt_bench_tta.normalization import train_weights_and_biases, use_batch_statistics
from ttt_bench_tta.optimizers import TrainingConfig, descend, make_optimizer

Pixels = Float[Tensor, "batch 3 side side"]
Loss = Literal["symmetric", "cross-entropy"]


class CottaConfig(TrainingConfig):
    """The release's values for ImageNet-C and ResNet-50."""

    lr: float = Field(0.01, gt=0, description="learning rate")
    teacher_momentum: float = Field(
        0.999, ge=0, le=1, description="alpha: weight of the past in the teacher's average"
    )
    restore: float = Field(
        0.001, ge=0, le=1, description="p: probability that a weight returns to its trained value"
    )
    threshold: float = Field(
        0.1,
        ge=0,
        description="p_th: mean confidence of the trained model below which the teacher averages "
        "augmented copies",
    )
    copies: int = Field(32, ge=1, description="augmented copies of a batch")
    loss: Loss = Field(
        "symmetric",
        description="symmetric as in the release for ImageNet, or cross-entropy as for CIFAR",
    )


def configure(model: WorkingCopy) -> None:
    """Normalize by the batch's statistics, and train every weight and bias."""
    use_batch_statistics(model)
    train_weights_and_biases(model)


@torch.no_grad()
def target(
    teacher: WorkingCopy,
    anchor: WorkingCopy,
    pixels: Pixels,
    augment: Callable[[Pixels], Pixels],
    threshold: float,
    copies: int,
) -> Float[Tensor, "batch classes"]:
    """Return the teacher's logits, averaged over augmented copies where the anchor is not sure.

    Args:
        teacher: the averaged model.
        anchor: the trained model.
        pixels: the images.
        augment: makes an augmented copy of the batch.
        threshold: the mean confidence of the anchor below which copies are averaged.
        copies: how many.
    """
    confidence = anchor(pixels).softmax(dim=1).amax(dim=1).mean()
    if confidence >= threshold:
        return teacher(pixels)
    return torch.stack([teacher(augment(pixels)) for _ in range(copies)]).mean(dim=0)


def learn(
    student: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    pixels: Pixels,
    logits: Float[Tensor, "batch classes"],
    loss: Loss,
) -> None:
    """Take one step of the student towards the teacher's logits.

    Args:
        student: the model that learns, in place.
        optimizer: the optimizer of its parameters.
        pixels: the images.
        logits: the teacher's.
        loss: the form of the cross entropy.
    """
    predicted = student(pixels)
    form = symmetric_cross_entropy if loss == "symmetric" else cross_entropy
    descend(form(logits, predicted).mean(), optimizer)


@torch.no_grad()
def average(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move every parameter of a teacher towards its student's.

    Args:
        teacher: the model to change.
        student: the model to follow.
        momentum: the weight of the teacher.
    """
    for one, other in zip(teacher.parameters(), student.parameters(), strict=True):
        one.mul_(momentum).add_(other, alpha=1 - momentum)


@torch.no_grad()
def restore(
    student: WorkingCopy, anchor: WorkingCopy, probability: float, generator: torch.Generator
) -> None:
    """Return a random share of the trained values to a student.

    Args:
        student: the model to change.
        anchor: the trained model.
        probability: that of each value.
        generator: the CPU generator of the draws.
    """
    for parameter, trained in zip(student.parameters(), anchor.parameters(), strict=True):
        if parameter.requires_grad:
            chosen = torch.rand(parameter.shape, generator=generator) < probability
            parameter.copy_(torch.where(chosen.to(parameter.device), trained, parameter))


class Cotta(WorkingCopyAdapter[CottaConfig]):
    """`cotta`: continual adaptation with a mean teacher and stochastic restoring.

    Attributes:
        teacher: the average of the students, whose predictions are reported.
        anchor: the trained model.
        optimizer: the optimizer of the student, `model`.
        augmentation: the random augmentation in the range of the pixels.
    """

    Config = CottaConfig
    fixed = ("anchor", "augmentation")

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        use_batch_statistics(self.model)
        self.teacher, self.anchor = copy.deepcopy(self.model), copy.deepcopy(self.model)
        configure(self.model)
        self.optimizer = make_optimizer(self.model, self.config, nesterov=True)
        self.augmentation = Augmentation(task.backbone)

    @override
    def predict(self, pixels: Pixels, rngs: Sequence[SampleRNG]) -> Float[Tensor, "batch classes"]:
        config = self.config
        augment = self.augmentation.drawn_by(rngs[0])
        logits = target(self.teacher, self.anchor, pixels, augment, config.threshold, config.copies)
        learn(self.model, self.optimizer, pixels, logits, config.loss)
        average(self.teacher, self.model, config.teacher_momentum)
        restore(self.model, self.anchor, config.restore, rngs[0].torch("restore"))
        return logits
