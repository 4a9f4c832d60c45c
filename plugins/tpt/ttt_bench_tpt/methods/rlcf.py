"""RLCF: a second CLIP rewards the classes that a view may be, and the prompt or image tower learns.

Paper: Zhao, Wang, Zhu and Yang 2024, Test-Time Adaptation with CLIP Reward for Zero-Shot
    Generalization in Vision-Language Models (ICLR 2024, arXiv 2305.18010), sections 3 and 4.
Code: mzhaoshuai/RLCF (Apache-2.0).
Kind: sample. The prompt, or the copy of the image tower, starts anew for every image.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    DualEncoder,
    Inputs,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    WorkingCopy,
    select_confident,
)
from ttt_bench_tpt.methods.tpt import Loss, PromptTuning, TPTConfig
from ttt_bench_tpt.rewards import RewardModel, Scores, reinforce
from ttt_bench_tpt.text import embed_words

WEIGHT_DECAY = 5e-4


class RLCFConfig(TPTConfig):
    """The paper's values (section 4.1)."""

    tower: Literal["prompt", "image"] = Field(
        "prompt", description="what learns: the context tokens of the prompt, or the image tower"
    )
    steps: int = Field(3, ge=1, le=100_000, description="AdamW steps per image")
    lr: float = Field(7e-3, gt=0, description="learning rate of AdamW for the prompt")
    image_lr: float = Field(1e-5, gt=0, description="learning rate of AdamW for the image tower")
    sampled_classes: int = Field(3, ge=1, description="best classes of a view that are rewarded")
    reward: str = Field(
        "open_clip:ViT-L-14/openai",
        description="backbone whose CLIPScore is the reward; empty for the run's own",
    )


def rewarded_by(scores: Scores, sampled: int) -> Loss:
    """Return the loss of prompts whose confident views are rewarded.

    Args:
        scores: scores views by the reward model; asked once, for the views that are kept.
        sampled: how many of a view's best classes are rewarded.
    """
    asked: list[Float[Tensor, "samples kept classes"]] = []

    def loss(
        text: Float[Tensor, "samples classes dim"],
        logits: Float[Tensor, "samples kept classes"],
        kept: Int[Tensor, "samples kept"],
    ) -> Float[Tensor, " samples"]:
        if not asked:
            asked.append(scores(kept))
        return reinforce(logits, asked[0], sampled)

    return loss


def learn(
    model: WorkingCopy,
    views: Float[Tensor, "kept 3 side side"],
    image: Float[Tensor, "1 3 side side"],
    loss: Callable[[Float[Tensor, "kept classes"]], Float[Tensor, ""]],
    steps: int,
    lr: float,
) -> Float[Tensor, "steps classes"]:
    """Train an image tower on the confident views, and predict the image after every step.

    Args:
        model: the working copy, which is trained in place.
        views: the confident views.
        image: the image.
        loss: the loss, given the scores of the confident views.
        steps: steps of AdamW.
        lr: its learning rate.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    predictions = []
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss(model(views)).backward()
        optimizer.step()
        with torch.no_grad():
            predictions.append(model(image)[0])
    return torch.stack(predictions)  # (steps, classes)


class RLCF(PromptTuning[RLCFConfig]):
    """`rlcf`: prompt tuning, or training of the image tower, by a CLIP reward.

    Attributes:
        rewards: the reward model.
        model: the image tower that learns, equal to the backbone's between images.
        source: its weights between images, by name.
    """

    Config = RLCFConfig
    weight_decay = WEIGHT_DECAY

    @override
    def inputs(self, task: Task) -> Inputs:
        view_set = self.view_set(task)
        pixels = (view_set,) if self.config.reward or self.config.tower == "image" else ()
        return Inputs(
            image_features=False,
            view_features=(view_set,),
            view_pixels=pixels,
            further_backbones=(self.config.reward,) if self.config.reward else (),
        )

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        backbone = task.require(DualEncoder)
        self.rewards = RewardModel(task, self.config.reward)
        if self.config.tower == "prompt":
            self.start_from(embed_words(backbone.model, backbone.tokenizer, self.config.context))
        else:
            self.model = task.working_copy().requires_grad_()
            self.source = {n: p.detach().clone() for n, p in self.model.named_parameters()}

    @override
    def loss(
        self,
        samples: Sequence[Sample],
        rngs: Sequence[SampleRNG],
        views: Float[Tensor, "samples views dim"],
    ) -> Loss:
        scores = self.rewards.scores(samples, rngs, self.view_set(self.task), views)
        return rewarded_by(scores, self.config.sampled_classes)

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        if self.config.tower == "prompt":
            return super().adapt(samples, rngs)
        encoded = self.task.encode_views(samples, rngs, self.view_set(self.task))
        return [self._predict(*one) for one in zip(samples, rngs, encoded, strict=True)]

    def _predict(
        self, sample: Sample, rng: SampleRNG, features: Float[Tensor, "views dim"]
    ) -> Prediction:
        """Train the image tower on one sample, predict it, and put the weights back."""
        view_set, task, config = self.view_set(self.task), self.task, self.config
        logits = self.model.classify(features)  # (views, classes)
        kept = select_confident(logits, config.selection)  # (kept)
        unit = F.normalize(features, dim=1)
        scores = self.rewards.scores([sample], [rng], view_set, unit[None])(kept[None])

        def loss(logits: Float[Tensor, "kept classes"]) -> Float[Tensor, ""]:
            return reinforce(logits[None], scores, config.sampled_classes)[0]

        pixels = task.view_pixels(sample, rng, view_set)
        try:
            with task.forward_pass():
                steps = learn(
                    self.model, pixels[kept], pixels[:1], loss, config.steps, config.image_lr
                )
        finally:
            self._put_back()
        return Prediction(steps[-1], steps, logits[0])

    @torch.no_grad()
    def _put_back(self) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(self.source[name])
            parameter.grad = None
