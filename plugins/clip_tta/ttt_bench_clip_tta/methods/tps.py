"""TPS: test-time prototype shifting, a shift of the class texts for each image.

Paper: Sui, Wang and Yeung-Levy 2024, Just Shift It: Test-Time Prototype Shifting for Zero-Shot
    Generalization with Vision-Language Models (arXiv 2403.12952), section 3.
Code: elaine-sui/TPS (MIT licence).
Kind: sample. The shifts begin at zero for every image; no tower is trained.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    Prediction,
    Sample,
    SampleRNG,
    batch_invariant_matmul,
    marginal_entropy,
)
from ttt_bench_clip_tta.adapter import ConfidentViewConfig, ViewAdapter
from ttt_bench_clip_tta.views import confident_views, take_views


class TPSConfig(ConfidentViewConfig):
    """The release's values for ImageNet."""

    steps: int = Field(1, ge=1, description="AdamW steps per image")
    lr: float = Field(5e-3, gt=0, description="learning rate of AdamW")
    shared: bool = Field(False, description="whether all classes have one shift")


class Shifts:
    """The shifts of each sample of a batch, and their optimizer.

    Attributes:
        values: the shifts.
        text: the unit text feature of each class.
        scale: the factor of cosines.
    """

    values: Float[Tensor, "samples classes_or_one dim"]

    def __init__(
        self,
        samples: int,
        text: Float[Tensor, "classes dim"],
        scale: float | Tensor,
        lr: float,
        shared: bool,
    ) -> None:
        """Begin with shifts of zero.

        Args:
            samples: the number of samples.
            text: the unit text feature of each class.
            scale: the factor of cosines.
            lr: learning rate of AdamW.
            shared: whether all classes have one shift.
        """
        classes, size = text.shape
        self.text, self.scale = text, scale
        self.values = torch.zeros(samples, 1 if shared else classes, size, device=text.device)
        self.values.requires_grad_()
        # AdamW is elementwise, so one optimizer of a stack is one optimizer for each sample.
        self._optimizer = torch.optim.AdamW([self.values], lr=lr)

    def logits(
        self, views: Float[Tensor, "samples views dim"]
    ) -> Float[Tensor, "samples views classes"]:
        """Return the scores of views by each sample's shifted texts."""
        texts = F.normalize(self.text + self.values, dim=2)  # (S, C, D)
        return self.scale * batch_invariant_matmul(views, texts.mT)

    def step(
        self, views: Float[Tensor, "samples views dim"], share: float
    ) -> tuple[Int[Tensor, "samples kept"], Float[Tensor, " samples"]]:
        """Let the confident views of each sample agree more, by one step.

        Args:
            views: unit features of the views.
            share: share of the views that is confident, by the shifts as they are.

        Returns:
            The confident views, and the loss before the step.
        """
        with torch.no_grad():
            kept = confident_views(self.logits(views), share)
        with torch.enable_grad():
            losses = marginal_entropy(self.logits(take_views(views, kept)))
            (self.values.grad,) = torch.autograd.grad(losses.sum(), self.values)
        self._optimizer.step()
        return kept, losses.detach()


class TPS(ViewAdapter[TPSConfig]):
    """`tps`: shifts the text of each class by one step, or some."""

    Config = TPSConfig

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        views, config = self.encode(samples, rngs), self.config
        shifts = Shifts(len(samples), self.text, self.scale, config.lr, config.shared)
        scores = [shifts.logits(views[:, :1])]
        for _ in range(config.steps):
            shifts.step(views, config.selection)
            scores.append(shifts.logits(views[:, :1]))
        by_step = torch.cat(scores, dim=1)  # (S, steps + 1, C)
        return [Prediction(one[-1], one[1:], one[0]) for one in by_step]
