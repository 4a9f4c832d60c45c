"""R-TPT: makes each confident view more certain by the prompt, and weights views by neighbours.

Paper: Sheng, Liang, Wang and He 2025, R-TPT: Improving Adversarial Robustness of Vision-Language
    Models through Test-Time Prompt Tuning (CVPR 2025, arXiv 2504.11195).
Code: TomSheng21/R-TPT (no licence).
Kind: sample. Context tokens and optimizer are new for every image.

Sizes in comments: S samples, V views, D the size of a feature.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import override

from ttt_bench import Sample, SampleRNG, batch_invariant_matmul, entropy
from ttt_bench_tpt.methods.tpt import TPT, Loss, TPTConfig


class RTPTConfig(TPTConfig):
    """The release's values, the same for every dataset."""

    neighbours: int = Field(
        20, ge=1, description="nearest other views by which the weight of a view is found"
    )
    temperature: float = Field(
        0.01, gt=0, description="divisor of the similarities before the softmax over views"
    )

    @model_validator(mode="after")
    def _has_neighbours(self) -> "RTPTConfig":
        if self.views <= self.neighbours:
            raise ValueError(
                f"{self.neighbours} neighbours of a view need more than {self.neighbours} views; "
                "set neighbours lower, or views higher"
            )
        return self


def uncertainty(
    text: Float[Tensor, "samples classes dim"],
    scores: Float[Tensor, "samples kept classes"],
    kept: Int[Tensor, "samples kept"],
) -> Float[Tensor, " samples"]:
    """Return the mean of the entropies of confident views.

    TPT's loss, the entropy of their mean distribution, also asks that the views agree.

    Args:
        text: unit text features, which this loss does not look at.
        scores: the scores of the confident views.
        kept: their indices, which this loss does not look at.
    """
    return entropy(scores).mean(dim=1)


def cosines_to_others(
    views: Float[Tensor, "samples views dim"],
) -> Float[Tensor, "samples views views"]:
    """Return the cosines of the views of each sample, minus infinity of a view with itself.

    Args:
        views: unit features of the views.
    """
    cosines = batch_invariant_matmul(views, views.mT)  # (S, V, V)
    cosines.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    return cosines


def similarity_to_neighbours(
    cosines: Float[Tensor, "samples views views"], neighbours: int
) -> Float[Tensor, "samples views"]:
    """Return the mean cosine of each view to its nearest views.

    Args:
        cosines: the cosines of the views, see `cosines_to_others`.
        neighbours: the number of nearest views.
    """
    return cosines.topk(neighbours, dim=2).values.mean(dim=2)


class RTPT(TPT):
    """`r-tpt`: TPT with another loss, and a weighted mean of the views' logits."""

    Config = RTPTConfig
    config: RTPTConfig

    @override
    def loss(
        self,
        samples: Sequence[Sample],
        rngs: Sequence[SampleRNG],
        views: Float[Tensor, "samples views dim"],
    ) -> Loss:
        return uncertainty

    @override
    def classified(
        self, views: Float[Tensor, "samples views dim"]
    ) -> Float[Tensor, "samples 1 dim"]:
        """Return the weighted mean of the views, whose logits are the weighted mean of theirs."""
        config = self.config
        similarity = similarity_to_neighbours(cosines_to_others(views), config.neighbours)
        weights = (similarity / config.temperature).softmax(dim=1)  # (S, V)
        return batch_invariant_matmul(weights[:, None], views)  # (S, 1, V) x (S, V, D)
