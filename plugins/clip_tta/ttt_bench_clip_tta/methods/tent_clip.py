"""TENT on CLIP: the image tower learns to be certain of a batch, and is put back.

Paper: Wang, Shelhamer, Liu, Olshausen and Darrell 2021, Tent (ICLR 2021, arXiv 2006.10726), in the
    form in which CLIPArTT (Vargas Hakim et al. 2024, arXiv 2405.00754, section 4) compares with it.
Code: dosowiechi/CLIPArTT (no licence); nothing of it is used here.
Kind: batch. The image tower's LayerNorm layers learn on a batch and are put back.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import WorkingCopy, entropy
from ttt_bench_clip_tta.batch_adapter import TowerAdapter, TowerConfig
from ttt_bench_clip_tta.layer_norms import LayerNorms


class TentClipConfig(TowerConfig):
    """The values of CLIPArTT's release, the same as for its own method."""

    steps: int = Field(10, ge=1, description="Adam steps for each batch")


def learn(
    model: WorkingCopy,
    pixels: Float[Tensor, "batch 3 side side"],
    texts: Float[Tensor, "classes dim"],
    scale: Float[Tensor, ""],
    steps: int,
    lr: float,
) -> None:
    """Train the LayerNorm layers of a copy so that the mean entropy of a batch falls.

    Args:
        model: the working copy, which is trained in place.
        pixels: the images.
        texts: the unit text feature of each class.
        scale: the factor of cosines.
        steps: steps of Adam.
        lr: learning rate of Adam.
    """
    optimizer = torch.optim.Adam(LayerNorms(model).parameters, lr=lr)
    for _ in range(steps):
        images = F.normalize(model.features(pixels).float(), dim=1)
        optimizer.zero_grad(set_to_none=True)
        entropy(scale * images @ texts.T).mean().backward()
        optimizer.step()


class TentClip(TowerAdapter[TentClipConfig]):
    """`tent-clip`: entropy minimization on every batch, each from the trained weights."""

    Config = TentClipConfig

    @override
    def learn(self, pixels: Float[Tensor, "batch 3 side side"]) -> None:
        config = self.config
        learn(self.model, pixels, self.texts, self.scale, config.steps, config.lr)
