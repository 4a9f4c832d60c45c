"""TENT: fully test-time adaptation by entropy minimization.

Paper: Wang, Shelhamer, Liu, Olshausen and Darrell 2021, Tent (ICLR 2021, arXiv 2006.10726),
    section 3.
Code: DequanWang/tent (MIT licence).
Kind: stream. Weight and bias of the normalization layers learn, on the batch's own statistics.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy, entropy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.normalization import train_normalization, use_batch_statistics
from ttt_bench_tta.optimizers import TrainingConfig, descend, make_scaled_optimizer


class TentConfig(TrainingConfig):
    """The paper's values for ImageNet-C and ResNet-50 (section 4.1)."""

    steps: int = Field(1, ge=1, description="optimizer steps for each batch")


def configure(model: WorkingCopy) -> None:
    """Normalize by the batch's statistics, and train the normalization layers alone."""
    use_batch_statistics(model)
    train_normalization(model)


def learn(
    model: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    pixels: Float[Tensor, "batch 3 side side"],
    steps: int = 1,
) -> Float[Tensor, "batch classes"]:
    """Lower the mean entropy of a batch, and return the logits of the last forward pass.

    Args:
        model: the working copy, which is trained in place.
        optimizer: the optimizer of its parameters.
        pixels: the images.
        steps: forward passes, each followed by an update.
    """
    logits = model(pixels)
    descend(entropy(logits).mean(), optimizer)
    for _ in range(steps - 1):
        logits = model(pixels)
        descend(entropy(logits).mean(), optimizer)
    return logits.detach()


class Tent(WorkingCopyAdapter[TentConfig]):
    """`tent`: entropy minimization on every batch.

    Attributes:
        optimizer: the optimizer, which lives as long as the stream.
    """

    Config = TentConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model)
        self.optimizer = make_scaled_optimizer(self.model, self.config)

    @override
    def predict(
        self, pixels: Float[Tensor, "batch 3 side side"], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch classes"]:
        return learn(self.model, self.optimizer, pixels, self.config.steps)
