"""CMF: ROID whose weights are filtered by a Kalman filter towards the trained ones.

Paper: Lee and Chang 2024, Continual Momentum Filtering on Parameter Space for Online Test-time
    Adaptation (ICLR 2024), section 3.
Code: mariodoebler/test-time-adaptation, cmf.py (MIT licence), after the authors' supplement.
Kind: stream. Weight and bias of the normalization layers learn, on the batch's own statistics.
"""

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Task, WorkingCopy
from ttt_bench_tta.methods import roid
from ttt_bench_tta.normalization import trained, weights_of

Weights = dict[str, Tensor]
# The gain's least value, and the value from which on it is 1.
LEAST, WHOLE = 0.89, 0.9999
# The numbers that ViT-B/16 trains, for which q is stated.
NUMBERS = 38400


class CmfConfig(roid.StepConfig):
    """The paper's values for ImageNet-C (section 4)."""

    alpha: float = Field(
        0.99, ge=0, le=1, description="share of the hidden weights that the trained ones leave"
    )
    gamma: float = Field(
        0.99, ge=0, le=1, description="share of the adapted weights that the hidden ones leave"
    )
    q: float = Field(
        0.005,
        gt=0,
        lt=1,
        description="q: noise of the hidden weights, for 38400 trained numbers as in ViT-B/16; in "
        "proportion for other networks",
    )


def gain(variance: float, q: float, alpha: float) -> tuple[float, float]:
    """Return the share that the hidden weights keep, and their new variance.

    Args:
        variance: P, that of the hidden weights.
        q: the noise that a batch adds to it; 1 - q is that of the adapted weights.
        alpha: the share of the hidden weights that the trained ones leave.
    """
    variance = alpha**2 * variance + q
    beta = max((1 - q) / (variance + 1 - q), LEAST)
    beta = 1.0 if beta > WHOLE else beta
    return beta, beta * variance


@torch.no_grad()
def filter_weights(
    model: WorkingCopy,
    hidden: Weights,
    source: Weights,
    alpha: float,
    beta: float,
    gamma: float,
) -> None:
    """Move the hidden weights towards the trained and the adapted ones, and these towards them.

    Args:
        model: the working copy, adapted to the last batch.
        hidden: the hidden weights by name, which change.
        source: the trained weights by name.
        alpha: the share of the hidden weights that the trained ones leave.
        beta: the share that the adapted ones leave.
        gamma: the share of the adapted weights that the hidden ones leave.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            weights = hidden[name]
            weights.mul_(alpha).add_(source[name], alpha=1 - alpha)
            weights.mul_(beta).add_(parameter, alpha=1 - beta)
    roid.move_towards(model, hidden, 1 - gamma)


class Cmf(roid.StepAdapter[CmfConfig]):
    """`cmf`: learns from certain and diverse samples, with filtered weights.

    Attributes:
        hidden: the hidden weights, by name.
        variance: P, the variance of the hidden weights.
    """

    Config = CmfConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.hidden = weights_of(self.model)
        self.variance = 0.0

    @property
    def q(self) -> float:
        """The configured noise in proportion to the number of trained numbers, below 1."""
        numbers = sum(parameter.numel() for parameter in trained(self.model))
        return min(self.config.q * numbers / NUMBERS, 0.99)

    @override
    def filter_weights(self) -> None:
        alpha, gamma = self.config.alpha, self.config.gamma
        beta, self.variance = gain(self.variance, self.q, alpha)
        filter_weights(self.model, self.hidden, self.source, alpha, beta, gamma)
