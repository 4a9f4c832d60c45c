"""TPT: test-time prompt tuning, from words or from a learned prompt.

Paper: Shu, Nie, Huang, Yu, Goldstein, Anandkumar and Xiao 2022, Test-Time Prompt Tuning for
    Zero-Shot Generalization in Vision-Language Models (NeurIPS 2022, arXiv 2209.07511), sections 3
    and 4.
Code: azshue/TPT (MIT licence).
Kind: sample. Context tokens and optimizer are new for every image.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    AdapterConfig,
    DualEncoder,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    marginal_entropy,
    select_confident,
)
from ttt_bench_tpt.prompt_adapter import PromptAdapter, PromptConfig
from ttt_bench_tpt.text import embed_words
from ttt_bench_tpt.views import make_views

Logits = Callable[
    [Float[Tensor, "samples tokens width"], Float[Tensor, "samples views dim"]],
    Float[Tensor, "samples views classes"],
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


def tune(
    logits: Logits,
    context: Float[Tensor, "samples tokens width"],
    views: Float[Tensor, "samples views dim"],
    steps: int,
    lr: float,
    share: float,
) -> tuple[Float[Tensor, "samples tokens width"], Float[Tensor, "samples steps_and_one classes"]]:
    """Tune each sample's context so that its confident views agree, and predict after every step.

    Args:
        logits: class scores of view features under contexts.
        context: where each sample's context starts.
        views: unit image features, the unaugmented view first.
        steps: steps of AdamW.
        lr: learning rate of AdamW.
        share: share of the views that is kept; they are chosen once, before the first step.

    Returns:
        The tuned contexts, and the scores of the unaugmented view before the first step and after
        each.
    """
    context = context.detach().clone().requires_grad_()
    # AdamW is elementwise, so one optimizer of a stack is one optimizer for each sample.
    optimizer = torch.optim.AdamW([context], lr=lr)
    with torch.no_grad():
        unadapted = logits(context, views)  # (samples, views, classes)
    kept = select_confident(unadapted, share)  # (samples, kept)
    index = kept[:, :, None].expand(-1, -1, views.shape[2])  # (samples, kept, dim)
    confident = views.gather(1, index)  # (samples, kept, dim)
    trajectory = [unadapted[:, 0]]
    for _ in range(steps):
        loss = marginal_entropy(logits(context, confident)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            trajectory.append(logits(context, views[:, :1])[:, 0])
    return context.detach(), torch.stack(trajectory, dim=1)  # (samples, steps + 1, classes)


TuningConfigT = TypeVar("TuningConfigT", bound=TuningConfig)


class PromptTuning(PromptAdapter[TuningConfigT]):
    """Test-time prompt tuning; its subclasses say where the context starts."""

    def load_start(self) -> Float[Tensor, "tokens width"]:
        """Return the context that every image starts from."""
        raise NotImplementedError

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.start = self.load_start()
        self.embed_classes(len(self.start))

    def contexts(
        self, features: Float[Tensor, "samples dim"]
    ) -> Float[Tensor, "samples tokens width"]:
        """Return the start of each sample, given the raw features of the unaugmented views."""
        return self.start.expand(len(features), -1, -1)  # (samples, tokens, width)

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        config, predictions = self.config, []
        pairs = list(zip(samples, rngs, strict=True))
        for first in range(0, len(pairs), self.stack):
            stacked = [self.encode_views(*pair) for pair in pairs[first : first + self.stack]]
            features = torch.stack(stacked)  # (samples, views, dim)
            start = self.contexts(features[:, 0])
            unit = F.normalize(features, dim=2)
            _, scores = tune(self.logits, start, unit, config.steps, config.lr, config.selection)
            predictions += [Prediction(s[-1], s[1:], unadapted_logits=s[0]) for s in scores]
        return predictions

    def encode_views(self, sample: Sample, rng: SampleRNG) -> Float[Tensor, "views dim"]:
        """Return the raw features of one sample's views, the unaugmented one first."""
        augmix = self.task.augmix if self.config.augmix is None else self.config.augmix
        return self.task.encode_views(make_views(self.task, sample, rng, self.config.views, augmix))


class TPT(PromptTuning[TPTConfig]):
    """`tpt`: the context starts from words."""

    Config = TPTConfig

    @override
    def load_start(self) -> Float[Tensor, "tokens width"]:
        backbone = self.task.require(DualEncoder)
        return embed_words(backbone.model, backbone.tokenizer, self.config.context)


class TPTCoOp(PromptTuning[TunedPromptConfig]):
    """`tpt-coop`: the context starts from the one that CoOp learned on labelled images."""

    Config = TunedPromptConfig

    @override
    def load_start(self) -> Float[Tensor, "tokens width"]:
        return self.learned_prompt(self.config.checkpoint, conditional=False).context


class TPTCoCoOp(PromptTuning[TunedPromptConfig]):
    """`tpt-cocoop`: the context starts from CoCoOp's for the image.

    As in the official code, the meta network sees the feature before normalization, and its output
    is computed once: the context is tuned, not the meta network.
    """

    Config = TunedPromptConfig

    @override
    def load_start(self) -> Float[Tensor, "tokens width"]:
        self.prompt = self.learned_prompt(self.config.checkpoint, conditional=True)
        return self.prompt.context

    @override
    @torch.no_grad()
    def contexts(
        self, features: Float[Tensor, "samples dim"]
    ) -> Float[Tensor, "samples tokens width"]:
        return self.prompt.conditioned_on(features)
