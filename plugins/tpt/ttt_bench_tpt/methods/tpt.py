"""TPT: test-time prompt tuning, from words or from a learned prompt.

Paper: Shu, Nie, Huang, Yu, Goldstein, Anandkumar and Xiao 2022, Test-Time Prompt Tuning for
    Zero-Shot Generalization in Vision-Language Models (NeurIPS 2022, arXiv 2209.07511), sections 3
    and 4.
Code: azshue/TPT (MIT licence).
Kind: sample. Context tokens and optimizer are new for every image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    AdapterConfig,
    AugMixViews,
    CropViews,
    DualEncoder,
    Inputs,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    ViewSet,
    marginal_entropy,
    select_confident,
)
from ttt_bench_tpt.prompt_adapter import PromptAdapter, PromptConfig
from ttt_bench_tpt.text import embed_words

Texts = Callable[[Float[Tensor, "samples tokens width"]], Float[Tensor, "samples classes dim"]]
Logits = Callable[
    [Float[Tensor, "samples classes dim"], Float[Tensor, "samples views dim"]],
    Float[Tensor, "samples views classes"],
]
# The loss of each sample, given its text features, the scores of its confident views under them,
# and the indices of those views.
Loss = Callable[
    [
        Float[Tensor, "samples classes dim"],
        Float[Tensor, "samples kept classes"],
        Int[Tensor, "samples kept"],
    ],
    Float[Tensor, " samples"],
]


class TuningConfig(AdapterConfig):
    """The paper's values (section 4.1)."""

    views: int = Field(
        64, ge=2, le=100_000, description="views per image, the unaugmented one included"
    )
    selection: float = Field(
        0.1, gt=0, le=1, description="share of the views to keep, those of lowest entropy"
    )
    steps: int = Field(1, ge=1, le=100_000, description="AdamW steps per image")
    lr: float = Field(5e-3, gt=0, description="learning rate of AdamW")
    augmix: bool | None = Field(
        None, description="whether random views are AugMix ones; null asks the dataset"
    )

    @model_validator(mode="after")
    def _keeps_a_view(self) -> "TuningConfig":
        if int(self.views * self.selection) < 1:
            raise ValueError(f"a share of {self.selection} of {self.views} views keeps none")
        return self


class TPTConfig(TuningConfig):
    """The configuration of `tpt`."""

    context: str = Field(
        "a photo of a", min_length=1, description="words whose tokens the context starts from"
    )


class TunedPromptConfig(TuningConfig, PromptConfig):
    """The configuration of `tpt-coop` and `tpt-cocoop`."""


@dataclass(frozen=True)
class Start:
    """Contexts to tune, with the text features under them and the graph from one to the other.

    Attributes:
        context: the context of each sample.
        text: unit text features of every class under each context.
        reusable: whether the graph is kept after a gradient, for the next samples.
    """

    context: Float[Tensor, "samples tokens width"]
    text: Float[Tensor, "samples classes dim"]
    reusable: bool

    @classmethod
    def at(
        cls, context: Float[Tensor, "samples tokens width"], texts: Texts, reusable: bool = False
    ) -> "Start":
        """Compute the text features under contexts, with a graph where gradients are enabled."""
        leaf = context.detach().requires_grad_()
        return cls(leaf, texts(leaf), reusable)

    def gradient(
        self, text_gradient: Float[Tensor, "samples classes dim"]
    ) -> Float[Tensor, "samples tokens width"]:
        """Return the gradient of a loss by the contexts, given its gradient by the text features.

        Args:
            text_gradient: the gradient of the loss by `text`.
        """
        return torch.autograd.grad(
            self.text, self.context, text_gradient, retain_graph=self.reusable
        )[0]


def disagreement(
    text: Float[Tensor, "samples classes dim"],
    scores: Float[Tensor, "samples kept classes"],
    kept: Int[Tensor, "samples kept"],
) -> Float[Tensor, " samples"]:
    """Return the entropy of the mean distribution of confident views, the loss of TPT.

    Args:
        text: unit text features, which this loss does not look at.
        scores: the scores of the confident views.
        kept: their indices, which this loss does not look at.
    """
    return marginal_entropy(scores)


def tune(
    texts: Texts,
    logits: Logits,
    start: Start,
    views: Float[Tensor, "samples views dim"],
    steps: int,
    lr: float,
    share: float,
    loss: Loss = disagreement,
    weight_decay: float = 0.01,
    classified: Float[Tensor, "samples 1 dim"] | None = None,
) -> tuple[Float[Tensor, "samples tokens width"], Float[Tensor, "samples steps_and_one classes"]]:
    """Tune each sample's context down a loss of its confident views, and predict after every step.

    Args:
        texts: unit text features of every class under contexts.
        logits: class scores of view features, given text features.
        start: where the contexts start.
        views: unit image features, the unaugmented view first.
        steps: steps of AdamW.
        lr: learning rate of AdamW.
        share: share of the views that is kept; they are chosen once, before the first step.
        loss: the loss, by default TPT's.
        weight_decay: weight decay of AdamW.
        classified: the feature that is classified after every step, None for the unaugmented view.

    Returns:
        The tuned contexts, and the scores of the unaugmented view before the first step, then of
        `classified` after each step.
    """
    if classified is None:
        classified = views[:, :1]  # (samples, 1, dim)
    context = start.context.detach().clone()
    # AdamW is elementwise, so one optimizer of a stack is one optimizer for each sample.
    optimizer = torch.optim.AdamW([context], lr=lr, weight_decay=weight_decay)
    text = start.text.detach()
    unadapted = logits(text, views)  # (samples, views, classes)
    kept = select_confident(unadapted, share)  # (samples, kept)
    index = kept[:, :, None].expand(-1, -1, views.shape[2])  # (samples, kept, dim)
    confident = views.gather(1, index)  # (samples, kept, dim)
    trajectory = [unadapted[:, 0]]
    for step in range(1, steps + 1):
        # The loss depends on the context by way of the text features alone.
        text.requires_grad_()
        total = loss(text, logits(text, confident), kept).sum()
        context.grad = start.gradient(torch.autograd.grad(total, text)[0])
        optimizer.step()
        with torch.set_grad_enabled(step < steps):
            start = Start.at(context, texts)
        text = start.text.detach()
        trajectory.append(logits(text, classified)[:, 0])
    return context, torch.stack(trajectory, dim=1)  # (samples, steps + 1, classes)


TuningConfigT = TypeVar("TuningConfigT", bound=TuningConfig)


class PromptTuning(PromptAdapter[TuningConfigT]):
    """Test-time prompt tuning; its subclasses say where the context starts, or another loss.

    Attributes:
        weight_decay: weight decay of AdamW.
    """

    weight_decay: float = 0.01

    def view_set(self, task: Task) -> ViewSet:
        """Return the recipe of the views."""
        augmix = task.augmix if self.config.augmix is None else self.config.augmix
        return (AugMixViews if augmix else CropViews)(self.config.views)

    @override
    def inputs(self, task: Task) -> Inputs:
        return Inputs(image_features=False, view_features=(self.view_set(task),))

    def start_from(self, context: Float[Tensor, "tokens width"]) -> None:
        """Start every sample from the same context.

        Where samples are not stacked, the text features and their graph are made once, here.
        """
        self.embed_classes(len(context))
        self.context = context
        self.start = (
            Start.at(context[None], self.text_features, reusable=True) if self.stack == 1 else None
        )

    def starts(self, features: Float[Tensor, "samples dim"]) -> Start:
        """Return where samples start, given the raw features of their unaugmented views."""
        contexts = self.context.expand(len(features), -1, -1)  # (samples, tokens, width)
        return self.start or Start.at(contexts, self.text_features)

    def loss(
        self,
        samples: Sequence[Sample],
        rngs: Sequence[SampleRNG],
        views: Float[Tensor, "samples views dim"],
    ) -> Loss:
        """Return the loss of a stack of samples, given the unit features of their views."""
        return disagreement

    def classified(
        self, views: Float[Tensor, "samples views dim"]
    ) -> Float[Tensor, "samples 1 dim"]:
        """Return the feature that is classified, given the unit features of the views."""
        return views[:, :1]

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        config, predictions = self.config, []
        encoded = self.task.encode_views(samples, rngs, self.view_set(self.task))
        for first in range(0, len(samples), self.stack):
            part = slice(first, first + self.stack)
            features = encoded[part]  # (samples, views, dim)
            start, unit = self.starts(features[:, 0]), F.normalize(features, dim=2)
            _, scores = tune(
                self.text_features,
                self.logits,
                start,
                unit,
                config.steps,
                config.lr,
                config.selection,
                self.loss(samples[part], rngs[part], unit),
                self.weight_decay,
                self.classified(unit),
            )
            predictions += [Prediction(s[-1], s[1:], unadapted_logits=s[0]) for s in scores]
        return predictions


class TPT(PromptTuning[TPTConfig]):
    """`tpt`: the context starts from words."""

    Config = TPTConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        backbone = task.require(DualEncoder)
        self.start_from(embed_words(backbone.model, backbone.tokenizer, self.config.context))


class TPTCoOp(PromptTuning[TunedPromptConfig]):
    """`tpt-coop`: the context starts from the one that CoOp learned on labelled images."""

    Config = TunedPromptConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        prompt = self.learned_prompt(self.config.checkpoint, conditional=False)
        self.start_from(prompt.context)


class TPTCoCoOp(PromptTuning[TunedPromptConfig]):
    """`tpt-cocoop`: the context starts from CoCoOp's for the image.

    As in the official code, the meta network sees the feature before normalization, and its output
    is computed once: the context is tuned, not the meta network.
    """

    Config = TunedPromptConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.prompt = self.learned_prompt(self.config.checkpoint, conditional=True)
        self.embed_classes(len(self.prompt.context))

    @override
    def starts(self, features: Float[Tensor, "samples dim"]) -> Start:
        return Start.at(self.prompt.conditioned_on(features), self.text_features)
