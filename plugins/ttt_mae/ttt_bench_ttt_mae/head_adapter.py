"""HeadAdapter: the part that all rows share, a trained head on the tokens of an encoder."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    Adapter,
    CheckpointConfig,
    Inputs,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    UserError,
)
from ttt_bench_ttt_mae.backbone import MAEBackbone
from ttt_bench_ttt_mae.checkpoints import Checkpoint, head, read
from ttt_bench_ttt_mae.files import locate
from ttt_bench_ttt_mae.model import Head, MAENetwork


class HeadConfig(CheckpointConfig):
    """The configuration of a method with a trained head."""

    @classmethod
    @override
    def locate(cls, checkpoint: str) -> Path:
        return locate(checkpoint)


HeadConfigT = TypeVar("HeadConfigT", bound=HeadConfig)


class HeadAdapter(Adapter[HeadConfigT]):
    """A method that classifies the tokens of a masked autoencoder's encoder by a trained head.

    Attributes:
        recipe: the recipe of `ttt-bench ttt-mae train` that makes its checkpoint.
        model: the autoencoder.
        head: the head.
        outputs: the head's outputs that are the task's classes.
    """

    uses_backbone_classifier = False
    recipe: ClassVar[str]

    @override
    def inputs(self, task: Task) -> Inputs:
        return Inputs(image_features=False, pixels=(None,))

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        checkpoint = self.read_checkpoint()
        network = task.require(MAEBackbone).network
        self.model = self.encoder(checkpoint, network).to(task.device)
        self.head = head(checkpoint, self.model).to(task.device)
        self.outputs = task.classes.head_outputs("the method's", self.head.classes)

    def read_checkpoint(self) -> Checkpoint:
        """Return the configured checkpoint.

        Raises:
            UserError: none is given, or another recipe made it.
        """
        if not self.config.checkpoint:
            raise UserError(
                "this method needs a trained head: give its file with --set checkpoint=FILE, or "
                f"make one with `ttt-bench ttt-mae train --recipe {self.recipe}`"
            )
        checkpoint = read(locate(self.config.checkpoint))
        made_by = checkpoint.about.get("recipe", self.recipe)
        if made_by != self.recipe:
            raise UserError(
                f"{checkpoint.path}: made by {made_by}; this method needs one of {self.recipe}"
            )
        return checkpoint

    def encoder(self, checkpoint: Checkpoint, backbone: MAENetwork) -> MAENetwork:
        """Return the autoencoder whose tokens the head reads.

        Raises:
            UserError: the head was trained on another encoder.
        """
        raise NotImplementedError

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        predict = partial(classify, self.model, self.head)
        with self.task.forward_pass():
            scores = self.task.batch_invariant(predict, self.task.pixels(samples))
        return [Prediction(logits) for logits in scores[:, self.outputs]]


class FrozenBackboneAdapter(HeadAdapter[HeadConfigT]):
    """A method whose head was trained on the frozen encoder of the backbone."""

    recipe = "vit-probe"

    @override
    def encoder(self, checkpoint: Checkpoint, backbone: MAENetwork) -> MAENetwork:
        trained_on = checkpoint.about.get("backbone_weights")
        if trained_on is not None and trained_on != self.task.backbone.weights_hash():
            raise UserError(
                f"{checkpoint.path}: trained on {checkpoint.about.get('backbone')}, whose weights "
                "are not this backbone's; give that one with --backbone"
            )
        return backbone


@torch.no_grad()
def classify(
    model: MAENetwork, head: Head, images: Float[Tensor, "batch 3 side side"]
) -> Float[Tensor, "batch outputs"]:
    """Return the head's outputs for whole images."""
    return head(model(images)).float()
