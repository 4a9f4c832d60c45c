"""Islands of agreement: the feature field while one network is fitted to one token."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench_apm.methods.apm import adam
from ttt_bench_apm.methods.apm_network import Network, Weights


@dataclass(frozen=True)
class Islands:
    """What was seen.

    Attributes:
        steps: after how many steps each field was taken.
        fields: row by row.
        losses: before each step and after the last.
        without_image: the field of the last weights for an image of zeros: what position alone
            makes of it.
    """

    steps: list[int]
    fields: list[Float[Tensor, "locations dim"]]
    losses: list[float]
    without_image: Float[Tensor, "locations dim"]

    @property
    def position_share(self) -> float:
        """How much of the last field's variance over locations is there without the image, 0 to 1.

        The squared correlation of the two fields, each less its mean feature. Near 1, a picture of
        the field shows the position code, and nothing of the image.
        """
        pair = (self.fields[-1].double(), self.without_image.double())
        one, other = (field - field.mean(0) for field in pair)
        both = one.square().sum() * other.square().sum()
        return float((one * other).sum() ** 2 / both.clamp(min=1e-30))


def overfit(
    network: Network,
    weights: Weights,
    image: Float[Tensor, "3 side side"],
    target: Float[Tensor, " dim"],
    steps: int,
    every: int,
    lr: float = 1e-4,
) -> Islands:
    """Fit the weights, in place, to one teacher feature as test-time training does.

    Args:
        weights: a stack of one.
        every: steps between two fields; the first is taken before any step, one after the last.

    Source: arXiv 2410.20535, sections 3 and 4.2.
    """
    optimizers = adam(weights, lr)
    taken, fields, losses = [], [], []
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            with torch.no_grad():
                fields.append(network.field(weights, image[None])[0].cpu())
            taken.append(step)
        loss = (network(weights, image[None])[0] - target).square().mean()
        losses.append(loss.item())
        if step < steps:
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
    with torch.no_grad():
        blank = network.field(weights, torch.zeros_like(image)[None])[0].cpu()
    return Islands(taken, fields, losses, blank)
