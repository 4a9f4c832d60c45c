"""Islands of agreement: the feature field of one network while test-time training goes on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench_apm.methods.apm import training_steps
from ttt_bench_apm.methods.apm_network import Network, Weights


@dataclass(frozen=True)
class Islands:
    """The fields and losses of one training.

    Attributes:
        steps: the number of steps before each field.
        fields: the features of every location, row by row.
        losses: the loss before each step and after the last.
        without_image: the field of the last weights for an image of zeros, which depends on
            positions alone.
    """

    steps: list[int]
    fields: list[Float[Tensor, "locations dim"]]
    losses: list[float]
    without_image: Float[Tensor, "locations dim"]

    @property
    def position_share(self) -> float:
        """The share of the last field's variance that is there without the image, 0 to 1.

        It is the squared correlation of the two fields over locations, each less its mean feature.
        Near 1, a picture of the field shows the position code and nothing of the image.
        """
        field, blank = (
            values - values.mean(0)
            for values in (self.fields[-1].double(), self.without_image.double())
        )
        norms = field.square().sum() * blank.square().sum()
        return float((field * blank).sum() ** 2 / norms.clamp(min=1e-30))


def watch_training(
    network: Network,
    weights: Weights,
    image: Float[Tensor, "3 side side"],
    target: Float[Tensor, " dim"],
    steps: int,
    every: int,
    lr: float = 1e-4,
) -> Islands:
    """Train the weights, in place, as test-time training does, and keep the fields on the way.

    Args:
        network: the functions of the network.
        weights: the weights of one sample, a stack of one.
        image: the image as the network sees it.
        target: the backbone's feature of the image, not normalized.
        steps: Adam steps.
        every: steps between two fields; the first is before any step, the last after all.
        lr: the learning rate.

    Source: arXiv 2410.20535, sections 3 and 4.2.
    """
    images = image[None]  # (1, 3, S, S)
    field_steps, fields, losses = [], [], []
    training = training_steps(network, weights, images, target[None], steps, lr)
    for step, pooled in enumerate(training):
        losses.append((pooled[0] - target).square().mean().item())
        if step % every == 0 or step == steps:
            with torch.no_grad():
                fields.append(network.field(weights, images)[0].cpu())  # (L, D)
            field_steps.append(step)
    with torch.no_grad():
        blank = network.field(weights, torch.zeros_like(images))[0].cpu()
    return Islands(field_steps, fields, losses, blank)
