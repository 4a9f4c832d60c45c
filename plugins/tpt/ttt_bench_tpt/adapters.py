"""TPT, CoOp, CoCoOp and their combinations: each reads like its paper's algorithm box."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    Adapter,
    AdapterConfig,
    DualEncoder,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    UserError,
    batch_invariant_matmul,
    file_hash,
)
from ttt_bench_tpt.checkpoints import Prompt, find, load_prompt
from ttt_bench_tpt.text import ClassTexts, first_context
from ttt_bench_tpt.tuning import tune
from ttt_bench_tpt.views import make_views

# Tokens of class names in one stack of samples. Beyond it a single sample keeps a machine busy.
STACKED_TOKENS = 4096


class TuningConfig(AdapterConfig):
    """TPT's values (Shu et al. 2022, section 4.1)."""

    views: int = Field(64, ge=2, description="the plain image and so many random ones less one")
    selection: float = Field(0.1, gt=0, le=1, description="share of views that are confident")
    steps: int = Field(1, ge=1, description="AdamW steps per sample")
    lr: float = Field(5e-3, gt=0, description="AdamW's learning rate")
    augmix: bool | None = Field(None, description="AugMix views; null asks the dataset")

    @model_validator(mode="after")
    def _keeps_a_view(self) -> "TuningConfig":
        if int(self.views * self.selection) < 1:
            raise ValueError(f"a share of {self.selection} of {self.views} views keeps none")
        return self


class TPTConfig(TuningConfig):
    """Where TPT starts."""

    context: str = Field("a photo of a", min_length=1, description="the words it starts from")


class PromptFile(AdapterConfig):
    """A learned prompt and what the protocol card says of it."""

    checkpoint: str = Field("", description="file of a learned prompt")
    checkpoint_sha256: str = Field("", description="filled in from the file")

    @model_validator(mode="before")
    @classmethod
    def _hash_file(cls, values: Any) -> Any:
        if isinstance(values.get("checkpoint"), str) and values["checkpoint"]:
            return {**values, "checkpoint_sha256": file_hash(find(values["checkpoint"]))}
        return values


class TunedPromptFile(TuningConfig, PromptFile):
    """TPT from a learned prompt."""


class PromptAdapter(Adapter[Any]):
    """What the prompt methods share: class texts under a context, and scaled cosines to them."""

    def prepare(self, context: Float[Tensor, "tokens width"]) -> None:
        """Embed the class names behind a context like this one.

        Raises:
            UserError: the context's tokens are of another width than the text tower's.
        """
        backbone = self.task.require(DualEncoder)
        self.texts = ClassTexts(
            backbone.model, backbone.tokenizer, self.task.classes.names, len(context)
        )
        self.scale = backbone.logit_scale
        if context.shape[1] != self.texts.width:
            raise UserError(
                f"{self.config.checkpoint}: its context tokens have width {context.shape[1]}, the "
                f"backbone's text tower has {self.texts.width}; take a prompt learned with it"
            )
        suffix = self.texts.names.shape[0] * self.texts.names.shape[1]
        self.stack = max(1, STACKED_TOKENS // suffix)

    def logits(
        self,
        context: Float[Tensor, "samples tokens width"],
        features: Float[Tensor, "samples views dim"],
    ) -> Float[Tensor, "samples views classes"]:
        """Scaled cosine of unit image features to every class under each sample's context."""
        return self.scale * batch_invariant_matmul(features, self.texts(context).mT)

    def learned_prompt(self, conditional: bool) -> Prompt:
        """The prompt of the configuration's checkpoint."""
        if not self.config.checkpoint:
            raise UserError(
                "this method wants a learned prompt: give its file with --set checkpoint=FILE, or "
                f"make one with `ttt-bench tpt train-{'cocoop' if conditional else 'coop'}`"
            )
        return load_prompt(self.config.checkpoint, conditional, self.task.device)


class TPT(PromptAdapter):
    """`tpt`: tune the context of one image so that its views agree with confidence."""

    Config = TPTConfig

    @override
    def setup(self, task: Task) -> None:
        self.task = task
        self.start = self.first_context()
        self.prepare(self.start)

    def first_context(self) -> Float[Tensor, "tokens width"]:
        """Token embeddings of the configuration's words."""
        backbone = self.task.require(DualEncoder)
        return first_context(backbone.model, backbone.tokenizer, self.config.context)

    def contexts(
        self, features: Float[Tensor, "samples dim"]
    ) -> Float[Tensor, "samples tokens width"]:
        """Where each sample starts, given the raw feature of its plain image."""
        return self.start.expand(len(features), -1, -1)

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        config, predictions = self.config, []
        augmix = self.task.augmix if config.augmix is None else config.augmix
        for at in range(0, len(samples), self.stack):
            pairs = list(zip(samples, rngs, strict=True))[at : at + self.stack]
            features = torch.stack(
                [
                    self.task.encode_views(make_views(self.task, *pair, config.views, augmix))
                    for pair in pairs
                ]
            )
            unit = torch.nn.functional.normalize(features, dim=2)
            start = self.contexts(features[:, 0])
            _, steps = tune(self.logits, start, unit, config.steps, config.lr, config.selection)
            predictions += [Prediction(own[-1], own[1:], unadapted_logits=own[0]) for own in steps]
        return predictions


class TPTCoOp(TPT):
    """`tpt-coop`: TPT from the context that CoOp learned on labelled images."""

    Config = TunedPromptFile

    @override
    def first_context(self) -> Float[Tensor, "tokens width"]:
        return self.learned_prompt(conditional=False).context


class TPTCoCoOp(TPT):
    """`tpt-cocoop`: TPT from CoCoOp's context for the plain image.

    As released, the meta network sees the unnormalized feature here, and its output is computed
    once: what is tuned is the context itself.
    """

    Config = TunedPromptFile

    @override
    def first_context(self) -> Float[Tensor, "tokens width"]:
        self.prompt = self.learned_prompt(conditional=True)
        return self.prompt.context

    @override
    def contexts(
        self, features: Float[Tensor, "samples dim"]
    ) -> Float[Tensor, "samples tokens width"]:
        with torch.no_grad():
            return self.prompt.conditioned_on(features)


class CoOp(PromptAdapter):
    """`coop`: the frozen dual encoder under a context learned on labelled images."""

    Config = PromptFile

    @override
    @torch.no_grad()
    def setup(self, task: Task) -> None:
        self.task = task
        context = self.learned_prompt(conditional=False).context
        self.prepare(context)
        self.text = self.texts(context[None])[0]

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        features = torch.nn.functional.normalize(self.task.encode_image(samples), dim=1)
        return [Prediction(self.scale * self.text @ feature) for feature in features]


class CoCoOp(PromptAdapter):
    """`cocoop`: the same, the context shifted by a small network of the image's feature."""

    Config = PromptFile

    @override
    def setup(self, task: Task) -> None:
        self.task = task
        self.prompt = self.learned_prompt(conditional=True)
        self.prepare(self.prompt.context)

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        unit = torch.nn.functional.normalize(self.task.encode_image(samples), dim=1)
        predictions = []
        for features in unit.split(self.stack):
            scores = self.logits(self.prompt.conditioned_on(features), features[:, None])[:, 0]
            predictions += [Prediction(logits) for logits in scores]
        return predictions
