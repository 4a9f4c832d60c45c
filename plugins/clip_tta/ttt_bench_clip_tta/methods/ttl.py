"""TTL: low-rank changes of the image tower's attention learn to be certain of an image's views.

Paper: Imam, Gani, Huzaifa and Nandakumar 2025, Test-Time Low Rank Adaptation via Confidence
    Maximization for Zero-Shot Generalization of Vision-Language Models (WACV 2025, arXiv
    2407.15913), section 3.
Code: Razaimam45/TTL-Test-Time-Low-Rank-Adaptation (no licence); nothing of it is used here.
Kind: sample. The changes begin anew for every image; no weight of the tower is trained.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from ttt_bench import (
    Inputs,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    UserError,
    WorkingCopy,
    entropy,
)
from ttt_bench_clip_tta.adapter import ViewAdapter, ViewConfig

# The weights that hold q, k and v of a block, in open_clip's towers and in timm's.
QKV = re.compile(r"blocks\.\d+\.attn\.(in_proj_weight|qkv\.weight)$")


class TTLConfig(ViewConfig):
    """The paper's values (section 4)."""

    steps: int = Field(1, ge=1, description="AdamW steps per image")
    lr: float = Field(5e-3, gt=0, description="learning rate of AdamW")
    blocks: int = Field(3, ge=1, description="last blocks of the image tower that are changed")
    rank: int = Field(16, ge=1, description="rank of the change of a q or v")
    alpha: float = Field(32.0, gt=0, description="factor of the changes, times their rank")
    margin: float = Field(
        0.4, ge=0, description="entropy in nats at which a view has the weight 1 in the loss"
    )


class ImageTower(nn.Module):
    """The image tower of a working copy as a module of its own, to be called with other weights."""

    def __init__(self, model: WorkingCopy) -> None:
        """Take the working copy."""
        super().__init__()
        self.model = model

    @override
    def forward(self, pixels: Float[Tensor, "views 3 side side"]) -> Float[Tensor, "views dim"]:
        """Return unit features."""
        return F.normalize(self.model.features(pixels).float(), dim=1)

    def attention(self, blocks: int) -> dict[str, Tensor]:
        """Return the weights that hold q, k and v of the last blocks, by name.

        Raises:
            UserError: the tower has fewer blocks.
        """
        weights = {name: w for name, w in self.named_parameters() if QKV.search(name)}
        if len(weights) < blocks:
            raise UserError(
                f"ttl changes q and v of the image tower's last {blocks} transformer blocks, and "
                f"this backbone has {len(weights)}; set blocks, or choose another --backbone"
            )
        return dict(list(weights.items())[-blocks:])


@dataclass(frozen=True)
class LowRank:
    """What is added to the q and v of a block: factor * up @ down, as LoRA writes it B A.

    Attributes:
        down: A of q and of v, each from the width to the rank.
        up: B of q and of v, each from the rank to the width.
        factor: the factor, alpha / rank.
    """

    down: Float[Tensor, "q_and_v rank width"]
    up: Float[Tensor, "q_and_v width rank"]
    factor: float

    @classmethod
    def of_zero(cls, down: Float[Tensor, "q_and_v rank width"], alpha: float) -> "LowRank":
        """Return a change that changes nothing yet: B is zero, and A is a copy of what is given."""
        up = torch.zeros_like(down.mT)  # (2, width, rank)
        parts = down.clone().requires_grad_(), up.requires_grad_()
        return cls(*parts, alpha / down.shape[1])

    def changed(self, weight: Float[Tensor, "q_k_and_v width"]) -> Float[Tensor, "q_k_and_v width"]:
        """Return the weight that holds q, k and v, one below the other, with its change."""
        q, v = self.factor * self.up @ self.down  # (2, width, width) -> twice (width, width)
        return weight + torch.cat([q, torch.zeros_like(q), v])  # (3 * width, width)


def drawn(weight: Tensor, rank: int, draw: torch.Generator) -> Float[Tensor, "q_and_v rank width"]:
    """Draw A of q and of v of a block, Xavier normal.

    Args:
        weight: the weight that holds q, k and v of the block.
        rank: the rank.
        draw: the random generator.
    """
    width = weight.shape[1]
    normal = torch.randn(2, rank, width, generator=draw)
    return (normal * math.sqrt(2 / (rank + width))).to(weight.device)


def weighted_entropy(logits: Float[Tensor, "views classes"], margin: float) -> Float[Tensor, ""]:
    """Return the mean entropy of the views, in which confident ones weigh more.

    A view of entropy H has the weight exp(margin - H), which is not differentiated.

    Args:
        logits: the scores of the views.
        margin: the entropy in nats of a view of the weight 1.
    """
    entropies = entropy(logits)
    weights = (margin - entropies.detach()).exp()
    return (weights * entropies).mean()


class ChangedTower:
    """An image tower with low-rank changes, and their optimizer. The tower itself stays as it is.

    Attributes:
        changes: the change of each weight that holds q, k and v, by name.
    """

    def __init__(
        self,
        tower: ImageTower,
        weights: Mapping[str, Tensor],
        downs: Mapping[str, Float[Tensor, "q_and_v rank width"]],
        alpha: float,
        lr: float,
    ) -> None:
        """Begin with the tower as it is.

        Args:
            tower: the tower.
            weights: those of its weights that are changed, by name.
            downs: A of each of them, as drawn.
            alpha: the factor of the changes, times their rank.
            lr: learning rate of AdamW.
        """
        self._tower, self._weights = tower, weights
        self.changes = {name: LowRank.of_zero(down, alpha) for name, down in downs.items()}
        learned = [part for each in self.changes.values() for part in (each.down, each.up)]
        self._optimizer = torch.optim.AdamW(learned, lr=lr, weight_decay=0.01)

    def features(self, pixels: Float[Tensor, "views 3 side side"]) -> Float[Tensor, "views dim"]:
        """Return unit features of views by the changed tower."""
        changed = {name: c.changed(self._weights[name]) for name, c in self.changes.items()}
        return functional_call(self._tower, changed, (pixels,))

    def step(
        self,
        pixels: Float[Tensor, "views 3 side side"],
        text: Float[Tensor, "classes dim"],
        scale: float | Tensor,
        margin: float,
    ) -> tuple[Float[Tensor, "views classes"], Float[Tensor, ""]]:
        """Let all views be more certain by one step.

        Args:
            pixels: the views.
            text: the unit text feature of each class.
            scale: the factor of cosines.
            margin: the entropy in nats of a view of the weight 1.

        Returns:
            The scores of the views and the loss, both before the step.
        """
        with torch.enable_grad():
            logits = scale * self.features(pixels) @ text.T  # (views, classes)
            loss = weighted_entropy(logits, margin)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
        self._optimizer.step()
        return logits.detach(), loss.detach()


class TTL(ViewAdapter[TTLConfig]):
    """`ttl`: low-rank changes of q and v that are learned on each image, by a step or some.

    Attributes:
        tower: the image tower of a working copy, which is never changed.
        weights: the weights that hold q, k and v of its last blocks, by name.
    """

    Config = TTLConfig

    @override
    def inputs(self, task: Task) -> Inputs:
        return Inputs(image_features=False, view_pixels=(self.view_set(task),))

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.tower = ImageTower(task.working_copy())
        self.weights = self.tower.attention(self.config.blocks)

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        return [self._predict(*one) for one in zip(samples, rngs, strict=True)]

    def _predict(self, sample: Sample, rng: SampleRNG) -> Prediction:
        """Adapt to one sample, and predict it after every step."""
        task, config, draw = self.task, self.config, rng.torch("low-rank changes")
        pixels = task.view_pixels(sample, rng, self.view_set(task))
        downs = {name: drawn(weight, config.rank, draw) for name, weight in self.weights.items()}
        tower = ChangedTower(self.tower, self.weights, downs, config.alpha, config.lr)
        before, after = list[Tensor](), list[Tensor]()
        with task.forward_pass():
            for _ in range(config.steps):
                logits, _ = tower.step(pixels, self.text, self.scale, config.margin)
                before.append(logits[0])
                after.append(self.scale * tower.features(pixels[:1])[0] @ self.text.T)
        return Prediction(after[-1].float(), torch.stack(after).float(), before[0].float())
