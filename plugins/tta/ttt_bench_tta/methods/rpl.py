"""RPL: robust pseudo-labels, TENT with a generalized cross entropy.

Paper: Rusak, Schneider, Pachitariu, Eck, Gehler, Bringmann, Brendel and Bethge 2022, If your data
    distribution shifts, use self-learning (TMLR 2022, arXiv 2104.12928), section 3, for its
    recipe of several epochs; online as in the release below. The loss is by Zhang and Sabuncu 2018
    (arXiv 1805.07836), equation 6.
Code: oripress/CCC (MIT licence), after bethgelab/robustness.
Kind: stream. Weight and bias of the normalization layers learn, on the batch's own statistics.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.methods.tent import configure
from ttt_bench_tta.optimizers import TrainingConfig, descend, make_optimizer


class RplConfig(TrainingConfig):
    """The release's values for ResNet-50."""

    lr: float = Field(5e-4, gt=0, description="learning rate")
    q: float = Field(
        0.8,
        gt=0,
        le=1,
        description="form of the loss: near 0 the cross entropy, 1 the absolute error",
    )


def generalized_cross_entropy(
    logits: Float[Tensor, "batch classes"], q: float
) -> Float[Tensor, " batch"]:
    """Return the loss to each prediction's own most likely class, (1 - p^q) / q."""
    return (1 - logits.softmax(dim=1).amax(dim=1) ** q) / q


def learn(
    model: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    pixels: Float[Tensor, "batch 3 side side"],
    q: float,
) -> Float[Tensor, "batch classes"]:
    """Take a step on a batch's own pseudo-labels, and return the logits before it.

    Args:
        model: the working copy, which is trained in place.
        optimizer: the optimizer of its parameters.
        pixels: the images.
        q: the form of the loss.
    """
    logits = model(pixels)
    descend(generalized_cross_entropy(logits, q).mean(), optimizer)
    return logits.detach()


class Rpl(WorkingCopyAdapter[RplConfig]):
    """`rpl`: robust pseudo-labels on every batch.

    Attributes:
        optimizer: the optimizer, which lives as long as the stream.
    """

    Config = RplConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model)
        self.optimizer = make_optimizer(self.model, self.config)

    @override
    def predict(
        self, pixels: Float[Tensor, "batch 3 side side"], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch classes"]:
        return learn(self.model, self.optimizer, pixels, self.config.q)
