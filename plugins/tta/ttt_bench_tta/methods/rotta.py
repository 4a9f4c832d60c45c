"""RoTTA: robust statistics, a class-balanced memory and a teacher that follows slowly.

Paper: Yuan, Xie and Li 2023, Robust Test-Time Adaptation in Dynamic Scenarios (CVPR 2023, arXiv
    2303.13899), section 3 and algorithm 1.
Code: BIT-DA/RoTTA (MIT licence).
Kind: stream. Weight and bias of the BatchNorm layers learn; `memory` samples are kept.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.augmentation import Augmentation
from ttt_bench_tta.losses import cross_entropy
from ttt_bench_tta.memory import Item, Memory
from ttt_bench_tta.methods.cotta import average
from ttt_bench_tta.normalization import FollowingStatistics, follow_batches, replace_batch_norm
from ttt_bench_tta.optimizers import TrainingConfig, descend, make_optimizer

Pixels = Float[Tensor, "batch 3 side side"]


class RottaConfig(TrainingConfig):
    """The paper's values for CIFAR-10-C and CIFAR-100-C (section 4.1)."""

    optimizer: Literal["sgd", "adam"] = Field("adam", description="optimizer")
    lr: float = Field(1e-3, gt=0, description="learning rate")
    memory: int = Field(64, ge=1, description="N: samples in the memory")
    update_every: int = Field(64, ge=1, description="samples between two updates")
    teacher_rate: float = Field(
        1e-3, ge=0, le=1, description="nu: share of the student in the teacher's new average"
    )
    statistics_rate: float = Field(
        0.05, ge=0, le=1, description="alpha: share of a batch in the new statistics"
    )
    age_weight: float = Field(1.0, ge=0, description="lambda_t: weight of age in the memory")
    entropy_weight: float = Field(
        1.0, ge=0, description="lambda_u: weight of entropy in the memory"
    )


class RobustBatchNorm(FollowingStatistics):
    """Statistics that follow those of the batches, by which images are normalized in train mode."""

    @override
    def statistics(
        self, maps: Float[Tensor, "batch channels rows columns"]
    ) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        if not self.training:
            return self.mean, self.variance
        variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
        mean = (1 - self.rate) * self.mean + self.rate * mean
        variance = (1 - self.rate) * self.variance + self.rate * variance
        self.mean, self.variance = mean.detach(), variance.detach()
        return mean, variance


def configure(model: WorkingCopy, rate: float) -> None:
    """Put robust statistics into every BatchNorm layer, and train weight and bias alone.

    Args:
        model: the working copy.
        rate: alpha, the share of a batch in the new statistics.
    """
    model.requires_grad_(False)
    for layer in replace_batch_norm(model, lambda layer: RobustBatchNorm(layer, rate)):
        layer.requires_grad_()


@torch.no_grad()
def predict(
    teacher: WorkingCopy, pixels: Pixels
) -> tuple[Float[Tensor, "batch classes"], list[Item]]:
    """Return the teacher's logits for a batch, and its images as items for the memory."""
    logits = teacher(pixels)
    probabilities = logits.softmax(dim=1)
    entropies = -(probabilities * torch.log(probabilities + 1e-6)).sum(dim=1)
    items = [
        Item(image.clone(), label, value)
        for image, label, value in zip(
            pixels, logits.argmax(dim=1).tolist(), entropies.tolist(), strict=True
        )
    ]
    return logits, items


def update(
    teacher: WorkingCopy,
    student: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    memory: Memory,
    augment: Callable[[Pixels], Pixels],
    teacher_rate: float,
) -> None:
    """Train the student on the memory, and move the teacher towards it.

    Args:
        teacher: the averaged model.
        student: the model that learns.
        optimizer: the optimizer of the student's parameters.
        memory: the bank of images.
        augment: makes the strong view of the images.
        teacher_rate: nu, the share of the student in the teacher.
    """
    pixels = torch.stack([item.pixels for item in memory.by_class()])
    ages = memory.relative_ages(pixels.device)
    for model in (teacher, student):
        follow_batches(model, follow=True)
    with torch.no_grad():
        target = teacher(pixels)
    losses = cross_entropy(target, student(augment(pixels)))
    timeliness = torch.exp(-ages) / (1 + torch.exp(-ages))
    descend((losses * timeliness).mean(), optimizer)
    for model in (teacher, student):
        follow_batches(model, follow=False)
    average(teacher, student, 1 - teacher_rate)


class Rotta(WorkingCopyAdapter[RottaConfig]):
    """`rotta`: a student on a balanced memory, and a teacher that predicts.

    Attributes:
        teacher: the average of the students, whose predictions are reported.
        optimizer: the optimizer of the student, `model`.
        memory: the bank of images.
        seen: the number of samples so far.
        augmentation: the random augmentation in the range of the pixels.
    """

    Config = RottaConfig
    fixed = ("augmentation",)

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        config = self.config
        configure(self.model, config.statistics_rate)
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = make_optimizer(self.model, config)
        self.memory = Memory(
            config.memory, len(task.classes), config.age_weight, config.entropy_weight
        )
        self.seen = 0
        self.augmentation = Augmentation(task.backbone)

    @override
    def samples_kept(self) -> int:
        return self.config.memory

    @override
    def predict(self, pixels: Pixels, rngs: Sequence[SampleRNG]) -> Float[Tensor, "batch classes"]:
        logits, items = predict(self.teacher, pixels)
        for item, rng in zip(items, rngs, strict=True):
            self.memory.add(item)
            self.seen += 1
            if self.seen % self.config.update_every == 0:
                augment = self.augmentation.drawn_by(rng)
                rate = self.config.teacher_rate
                update(self.teacher, self.model, self.optimizer, self.memory, augment, rate)
        return logits
