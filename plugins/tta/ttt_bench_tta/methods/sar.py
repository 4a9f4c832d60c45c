"""SAR: sharpness-aware and reliable entropy minimization.

Paper: Niu, Wu, Zhang, Wen, Chen, Zhao and Tan 2023, Towards Stable Test-Time Adaptation in Dynamic
    Wild World (ICLR 2023, arXiv 2302.12400), section 3.3 and algorithm 1.
Code: mr-eggplant/SAR (BSD-3-Clause licence).
Kind: stream. Weight and bias of the normalization layers learn, those of the last blocks left out.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy, entropy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.normalization import (
    put_back,
    train_normalization,
    trained,
    use_batch_statistics,
    weights_of,
)
from ttt_bench_tta.optimizers import TrainingConfig, make_scaled_optimizer

# Weight of the past in the mean loss.
MOMENTUM = 0.9


class SarConfig(TrainingConfig):
    """The paper's values for ImageNet-C and ResNet-50 (section 4, appendix C.2)."""

    entropy_margin: float = Field(
        0.4, gt=0, description="E0: the entropy below which a sample is reliable, in units of ln C"
    )
    rho: float = Field(0.05, ge=0, description="radius of the sharpness-aware step")
    reset_below: float = Field(
        0.2, ge=0, description="e0: the mean loss below which the model starts again, in nats"
    )


def configure(model: WorkingCopy) -> None:
    """Normalize by the batch's statistics, and train all but the last normalization layers."""
    use_batch_statistics(model)
    train_normalization(model, without_last=True)


def learn(
    model: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    pixels: Float[Tensor, "batch 3 side side"],
    margin: float,
    rho: float,
    always_step: bool = False,
) -> tuple[Float[Tensor, "batch classes"], float | None]:
    """Take a sharpness-aware step on the reliable samples; return the logits and the second loss.

    Args:
        model: the working copy, which is trained in place.
        optimizer: the optimizer of its parameters.
        pixels: the images.
        margin: E0, in nats.
        rho: the radius of the climb.
        always_step: whether the optimizer steps, by its momentum, without a reliable sample too.

    Returns:
        The logits before the step, and the loss at the top of the climb, None without a sample.
    """
    parameters = trained(model)
    logits = model(pixels)
    entropies = entropy(logits)
    reliable = entropies < margin
    if not (reliable.any() or always_step):
        return logits.detach(), None
    # The mean of no samples has a gradient of zeros.
    gradients = torch.autograd.grad(entropies[reliable].mean(), parameters)
    start = [parameter.detach().clone() for parameter in parameters]
    climb(parameters, gradients, rho)

    entropies = entropy(model(pixels))[reliable]
    loss = entropies[entropies < margin].mean()
    counted = bool((entropies < margin).any())
    if counted or always_step:
        loss.backward()
    with torch.no_grad():
        for parameter, value in zip(parameters, start, strict=True):
            parameter.copy_(value)
    if counted or always_step:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return logits.detach(), loss.item() if counted else None


@torch.no_grad()
def climb(parameters: Sequence[Tensor], gradients: Sequence[Tensor], rho: float) -> None:
    """Move parameters by a distance up their gradient.

    Args:
        parameters: the parameters.
        gradients: the gradient of each.
        rho: the distance.
    """
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter += gradient * (rho / (norm + 1e-12))


def moving_average(mean: float | None, loss: float | None) -> float | None:
    """Return the mean loss with one more, None before the first."""
    if loss is None or mean is None:
        return mean if loss is None else loss
    return MOMENTUM * mean + (1 - MOMENTUM) * loss


class Sar(WorkingCopyAdapter[SarConfig]):
    """`sar`: sharpness-aware steps on reliable samples, and a new start where the model collapses.

    Attributes:
        optimizer: the optimizer.
        source: the parameters before any adaptation, by name.
        mean_loss: the moving average of the second loss, None at the start.
    """

    Config = SarConfig
    fixed = ("source",)

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model)
        self.source = weights_of(self.model)
        self.optimizer = make_scaled_optimizer(self.model, self.config)
        self.mean_loss: float | None = None

    @override
    def predict(
        self, pixels: Float[Tensor, "batch 3 side side"], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch classes"]:
        config = self.config
        margin = config.entropy_margin * math.log(len(self.task.classes))
        logits, loss = learn(self.model, self.optimizer, pixels, margin, config.rho)
        self.mean_loss = moving_average(self.mean_loss, loss)
        if self.mean_loss is not None and self.mean_loss < config.reset_below:
            put_back(self.model, self.source)
            self.optimizer.state.clear()
            self.mean_loss = None
        return logits
