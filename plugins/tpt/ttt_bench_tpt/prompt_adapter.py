"""PromptAdapter: the part that all prompt methods share."""

from pathlib import Path
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    Adapter,
    AdapterConfig,
    CheckpointConfig,
    DualEncoder,
    UserError,
    batch_invariant_matmul,
)
from ttt_bench_tpt.checkpoints import Prompt, load_prompt, locate
from ttt_bench_tpt.text import ClassTexts, causal_text_tower

# Tokens of class names in one stack of samples: above it, one sample alone keeps the device busy.
STACKED_TOKENS, STACKED_TOKENS_CPU = 4096, 512

ConfigT = TypeVar("ConfigT", bound=AdapterConfig)


class PromptConfig(CheckpointConfig):
    """The configuration of a method with a learned prompt."""

    @classmethod
    @override
    def locate(cls, checkpoint: str) -> Path:
        return locate(checkpoint)


class PromptAdapter(Adapter[ConfigT]):
    """A method that scores images by the class names behind context tokens.

    Attributes:
        texts: the embedded class names.
        scale: the factor of cosines.
        stack: how many samples are computed at once.
    """

    def embed_classes(self, context_tokens: int) -> None:
        """Embed the class names behind a context of so many tokens."""
        backbone = self.task.require(DualEncoder)
        self.texts = ClassTexts(
            backbone.model, backbone.tokenizer, self.task.classes.names, context_tokens
        )
        self.scale = backbone.logit_scale
        tokens = STACKED_TOKENS_CPU if self.task.device.type == "cpu" else STACKED_TOKENS
        self.stack = max(1, tokens // len(self.texts.suffixes))

    def text_features(
        self, context: Float[Tensor, "samples tokens width"]
    ) -> Float[Tensor, "samples classes dim"]:
        """Return unit text features of every class under every sample's context."""
        with self.task.forward_pass():
            return self.texts(context)

    def logits(
        self,
        text: Float[Tensor, "samples classes dim"],
        features: Float[Tensor, "samples views dim"],
    ) -> Float[Tensor, "samples views classes"]:
        """Return the scaled cosine of unit image features to each sample's text features."""
        return self.scale * batch_invariant_matmul(features, text.mT)

    def learned_prompt(self, checkpoint: str, conditional: bool) -> Prompt:
        """Return the prompt of a checkpoint.

        Args:
            checkpoint: path of the file, or the name of an embedded one.
            conditional: whether it is CoCoOp's, with a meta network, or CoOp's.

        Raises:
            UserError: none is given, or it does not fit the method or the backbone.
        """
        if not checkpoint:
            raise UserError(
                "this method needs a learned prompt: give its file with --set checkpoint=FILE, or "
                f"make one with `ttt-bench tpt train-{'cocoop' if conditional else 'coop'}`"
            )
        prompt = load_prompt(checkpoint, conditional, self.task.device)
        tower = causal_text_tower(self.task.require(DualEncoder).model)
        width, needed = prompt.context.shape[1], tower.token_embedding.weight.shape[1]
        if width != needed:
            raise UserError(
                f"{checkpoint}: its context tokens have width {width}, the backbone's text tower "
                f"has {needed}; take a prompt that was learned with this backbone"
            )
        return prompt
