"""C-TPT: TPT that also spreads the class text features, so that its confidence means more.

Paper: Yoon, Yoon, Tee, Hasegawa-Johnson, Li and Yoo 2024, C-TPT: Calibrated Test-Time Prompt Tuning
    for Vision-Language Models via Text Feature Dispersion (ICLR 2024, arXiv 2403.14119), section 4.
Code: hee-suk-yoon/C-TPT (MIT licence).
Kind: sample. Context tokens and optimizer are new for every image.
"""

from collections.abc import Sequence

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Sample, SampleRNG, marginal_entropy
from ttt_bench_tpt.methods.tpt import TPT, Loss, TPTConfig


class CTPTConfig(TPTConfig):
    """The configuration of `c-tpt`, with the paper's values for ImageNet (section 5.1)."""

    dispersion: float = Field(50.0, ge=0, description="weight of the dispersion of text features")


def dispersion(text: Float[Tensor, "samples classes dim"]) -> Float[Tensor, " samples"]:
    """Return the mean distance of the class text features to their mean (equation 5)."""
    return (text - text.mean(dim=1, keepdim=True)).norm(dim=2).mean(dim=1)


def calibrated(weight: float) -> Loss:
    """Return TPT's loss minus the weighted dispersion of the text features (equation 6)."""

    def loss(
        text: Float[Tensor, "samples classes dim"],
        scores: Float[Tensor, "samples kept classes"],
        kept: Int[Tensor, "samples kept"],
    ) -> Float[Tensor, " samples"]:
        return marginal_entropy(scores) - weight * dispersion(text)

    return loss


class CTPT(TPT):
    """`c-tpt`: TPT with one more term in its loss."""

    Config = CTPTConfig
    config: CTPTConfig

    @override
    def loss(
        self,
        samples: Sequence[Sample],
        rngs: Sequence[SampleRNG],
        views: Float[Tensor, "samples views dim"],
    ) -> Loss:
        return calibrated(self.config.dispersion)
