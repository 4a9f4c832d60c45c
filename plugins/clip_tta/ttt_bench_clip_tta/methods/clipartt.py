"""CLIPArTT: the image tower learns with prompts that name the three best classes of each image.

Paper: Vargas Hakim, Osowiechi, Noori, Cheraghalikhani, Bahri, Yazdanpanah, Ben Ayed and Desrosiers
    2024, CLIPArTT: Adaptation of CLIP to New Domains at Test Time (arXiv 2405.00754), section 3.
Code: dosowiechi/CLIPArTT (no licence); nothing of it is used here.
Kind: batch. The image tower's LayerNorm layers learn on a batch and are put back.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import DualEncoder, WorkingCopy
from ttt_bench_clip_tta.alignment import alignment_loss
from ttt_bench_clip_tta.batch_adapter import TowerAdapter, TowerConfig
from ttt_bench_clip_tta.layer_norms import LayerNorms

# Unit features of prompts that name several classes each, most likely first.
JoinedTexts = Callable[[Sequence[tuple[int, ...]]], Float[Tensor, "batch dim"]]


class CLIPArTTConfig(TowerConfig):
    """The paper's values (section 4.2)."""

    steps: int = Field(10, ge=1, description="Adam steps for each batch")
    joined_classes: int = Field(
        3, ge=1, description="best classes of an image that its prompt names, the paper's K"
    )


def learn(
    model: WorkingCopy,
    pixels: Float[Tensor, "batch 3 side side"],
    texts: Float[Tensor, "classes dim"],
    joined: JoinedTexts,
    scale: Float[Tensor, ""],
    config: CLIPArTTConfig,
) -> None:
    """Train the LayerNorm layers of a copy with the prompts of each image's best classes.

    Args:
        model: the working copy, which is trained in place.
        pixels: the images.
        texts: the unit text feature of each class.
        joined: encodes prompts that name several classes.
        scale: the factor of cosines.
        config: steps, learning rate and number of classes.
    """
    optimizer = torch.optim.Adam(LayerNorms(model).parameters, lr=config.lr)
    count = min(config.joined_classes, len(texts))
    for _ in range(config.steps):
        images = F.normalize(model.features(pixels).float(), dim=1)
        best = (images.detach() @ texts.T).topk(count, dim=1).indices  # (batch, count)
        prompts = joined([tuple(row) for row in best.tolist()])
        optimizer.zero_grad(set_to_none=True)
        alignment_loss(images, prompts, scale).backward()
        optimizer.step()


@torch.no_grad()
def joined_texts(
    encode: Callable[[Sequence[str]], Float[Tensor, "prompts dim"]],
    names: Sequence[str],
    template: str,
    combinations: Sequence[tuple[int, ...]],
) -> Float[Tensor, "batch dim"]:
    """Return unit features of prompts such as "a photo of a cat or dog or deer.".

    Args:
        encode: encodes prompts.
        names: the class names.
        template: the prompt of a class.
        combinations: the classes that each prompt names. Equal prompts are encoded once.
    """
    distinct = {classes: number for number, classes in enumerate(dict.fromkeys(combinations))}
    prompts = [template.format(" or ".join(names[c] for c in classes)) for classes in distinct]
    features = F.normalize(encode(prompts).float(), dim=1)
    return features[[distinct[classes] for classes in combinations]]


class CLIPArTT(TowerAdapter[CLIPArTTConfig]):
    """`clipartt`: prompts of several classes in place of pseudo-labels."""

    Config = CLIPArTTConfig

    @override
    def learn(self, pixels: Float[Tensor, "batch 3 side side"]) -> None:
        backbone, classes = self.task.require(DualEncoder), self.task.classes

        def joined(combinations: Sequence[tuple[int, ...]]) -> Float[Tensor, "batch dim"]:
            return joined_texts(backbone.encode_text, classes.names, classes.prompt, combinations)

        learn(self.model, pixels, self.texts, joined, self.scale, self.config)
