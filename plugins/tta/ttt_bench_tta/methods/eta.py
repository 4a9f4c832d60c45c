"""ETA: entropy minimization on samples that are reliable and unlike those before.

Paper: Niu, Wu, Zhang, Chen, Zheng, Zhao and Tan 2022, Efficient Test-Time Model Adaptation without
    Forgetting (ICML 2022, arXiv 2204.02610), section 4.1. ETA is EATA without its regularizer.
Code: mr-eggplant/EATA (MIT licence).
Kind: stream. Weight and bias of the normalization layers learn, on the batch's own statistics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy, entropy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.methods.tent import configure
from ttt_bench_tta.optimizers import TrainingConfig, descend, make_scaled_optimizer

# Weight of the past in the mean prediction.
MOMENTUM = 0.9


class EtaConfig(TrainingConfig):
    """The paper's values for ImageNet-C and ResNet-50 (section 5)."""

    entropy_margin: float = Field(
        0.4, gt=0, description="E0: the entropy below which a sample is reliable, in units of ln C"
    )
    similarity_margin: float = Field(
        0.05,
        gt=0,
        description="epsilon: the cosine to the mean prediction below which a sample is new",
    )


@dataclass(frozen=True)
class Margins:
    """The margins of the two filters.

    Attributes:
        entropy: E0, in nats.
        similarity: epsilon.
    """

    entropy: float
    similarity: float


def select(
    logits: Float[Tensor, "batch classes"],
    mean: Float[Tensor, " classes"] | None,
    margins: Margins,
) -> tuple[Bool[Tensor, " batch"], Float[Tensor, " classes"] | None]:
    """Choose the samples to learn from, and return them with the new mean prediction.

    Args:
        logits: the predictions.
        mean: the mean of the probabilities of samples before, None before the first.
        margins: the margins of the filters.
    """
    probabilities = logits.softmax(dim=1)
    kept = entropy(logits) < margins.entropy
    if mean is None:
        return kept, probabilities[kept].mean(dim=0) if kept.any() else None
    similarity = F.cosine_similarity(mean[None], probabilities, dim=1)
    kept = kept & (similarity.abs() < margins.similarity)
    if kept.any():
        mean = MOMENTUM * mean + (1 - MOMENTUM) * probabilities[kept].mean(dim=0)
    return kept, mean


def weighted_entropy(logits: Float[Tensor, "kept classes"], margin: float) -> Float[Tensor, ""]:
    """Return the mean entropy, each with the weight exp(E0 - H), which is a constant.

    Args:
        logits: the predictions of the samples to learn from.
        margin: E0, in nats.
    """
    entropies = entropy(logits)
    return (torch.exp(margin - entropies.detach()) * entropies).mean()


def learn(
    model: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    pixels: Float[Tensor, "batch 3 side side"],
    mean: Float[Tensor, " classes"] | None,
    margins: Margins,
) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, " classes"] | None]:
    """Learn from the chosen samples of a batch; return its logits and the new mean prediction.

    Args:
        model: the working copy, which is trained in place.
        optimizer: the optimizer of its parameters.
        pixels: the images.
        mean: the mean prediction before.
        margins: the margins of the filters.
    """
    logits = model(pixels)
    kept, mean = select(logits.detach(), mean, margins)
    if kept.any():
        descend(weighted_entropy(logits[kept], margins.entropy), optimizer)
    return logits.detach(), mean


class Eta(WorkingCopyAdapter[EtaConfig]):
    """`eta`: weighted entropy minimization on chosen samples.

    Attributes:
        optimizer: the optimizer, which lives as long as the stream.
        mean: the mean prediction of the chosen samples, None before the first.
    """

    Config = EtaConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model)
        self.optimizer = make_scaled_optimizer(self.model, self.config)
        self.mean: Tensor | None = None

    @property
    def margins(self) -> Margins:
        """The configured margins."""
        entropy_margin = self.config.entropy_margin * math.log(len(self.task.classes))
        return Margins(entropy_margin, self.config.similarity_margin)

    @override
    def predict(
        self, pixels: Float[Tensor, "batch 3 side side"], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch classes"]:
        logits, self.mean = learn(self.model, self.optimizer, pixels, self.mean, self.margins)
        return logits
