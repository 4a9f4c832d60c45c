"""TTT-MAE and the rows without test-time training that its table compares with."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from typing_extensions import override

from ttt_bench import (
    Adapter,
    AdapterConfig,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    UserError,
    file_hash,
)
from ttt_bench_ttt_mae.backbone import MAEBackbone
from ttt_bench_ttt_mae.checkpoints import Checkpoint, encoder_of, head, read
from ttt_bench_ttt_mae.files import locate
from ttt_bench_ttt_mae.model import MAENetwork
from ttt_bench_ttt_mae.tuning import MakeOptimizer, classify, tune


class HeadFile(AdapterConfig):
    """A trained classifier and what the protocol card says of it."""

    checkpoint: str = Field("", description="file of a trained head")
    checkpoint_sha256: str = Field("", description="filled in from the file")

    @model_validator(mode="before")
    @classmethod
    def _hash_file(cls, values: Any) -> Any:
        if isinstance(values.get("checkpoint"), str) and values["checkpoint"]:
            return {**values, "checkpoint_sha256": file_hash(locate(values["checkpoint"]))}
        return values


class TTTMAEConfig(HeadFile):
    """The paper's values for ImageNet-C (Gandelsman et al. 2022, section 4)."""

    steps: int = Field(20, ge=1, description="optimizer steps per sample")
    copies: int = Field(128, ge=1, description="masked copies of the image in a step")
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="share of the patches that is hidden")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd, or adamw (0.9, 0.95)")
    lr: float = Field(5e-3, gt=0, description="learning rate: 1e-2 for every 256 copies")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")


class ViTProbe(Adapter[Any]):
    """`vit-probe`: a head trained on the frozen encoder; the model TTT-MAE starts from."""

    Config = HeadFile
    uses_backbone_classifier = False
    recipe: ClassVar[str] = "vit-probe"

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        checkpoint = self.read_checkpoint()
        self.check_start(checkpoint, task)
        network = task.require(MAEBackbone).network
        self.model = self.encoder(checkpoint, network).to(task.device)
        self.head = head(checkpoint, self.model).to(task.device)
        self.outputs = task.classes.head_outputs("the method's", self.head.classes)

    def read_checkpoint(self) -> Checkpoint:
        """The file of the configuration, which must come from this row's recipe."""
        if not self.config.checkpoint:
            raise UserError(
                "this method wants a trained head: give its file with --set checkpoint=FILE, or "
                f"make one with `ttt-bench ttt-mae train --recipe {self.recipe}`"
            )
        checkpoint = read(locate(self.config.checkpoint))
        made_by = checkpoint.about.get("recipe", self.recipe)
        if made_by != self.recipe:
            raise UserError(f"{checkpoint.path}: made by {made_by}; {self.recipe} is wanted here")
        return checkpoint

    def check_start(self, checkpoint: Checkpoint, task: Task) -> None:
        """A head reads the tokens of the encoder it was trained on, and of no other."""
        start = checkpoint.about.get("backbone_weights")
        if start is not None and start != task.backbone.weights_hash():
            raise UserError(
                f"{checkpoint.path}: trained on {checkpoint.about.get('backbone')}, whose weights "
                "are not this backbone's; give that one with --backbone"
            )

    def encoder(self, checkpoint: Checkpoint, backbone: MAENetwork) -> MAENetwork:
        """The backbone's own."""
        return backbone

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        predict = partial(classify, self.model, self.head)
        logits = self.task.batch_invariant(predict, self.task.pixels(samples))
        return [Prediction(own) for own in logits[:, self.outputs]]


class FineTune(ViTProbe):
    """`fine-tune`: encoder and head trained on the labels."""

    recipe = "fine-tune"

    @override
    def check_start(self, checkpoint: Checkpoint, task: Task) -> None:
        """The file brings the encoder that its head was trained with."""

    @override
    def encoder(self, checkpoint: Checkpoint, backbone: MAENetwork) -> MAENetwork:
        """The checkpoint's, on the backbone's sizes."""
        return encoder_of(checkpoint, backbone)


class JointTrain(FineTune):
    """`joint-train`: the same, trained on the labels and the reconstruction together."""

    recipe = "joint-train"


class TTTMAE(ViTProbe):
    """`ttt-mae`: reconstruct each image from its masked copies, then classify it.

    Encoder and mask token learn, decoder and head stay; the next image starts from the trained
    weights again.
    """

    Config = TTTMAEConfig

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        config, patches = self.config, self.model.sizes.grid**2
        optimizer, predictions = make_optimizer(config), []
        for image, rng in zip(self.task.pixels(samples), rngs, strict=True):
            generator = rng.torch("masks")
            masks = (
                torch.rand(config.copies, patches, generator=generator).to(self.task.device)
                for _ in range(config.steps)
            )
            _, logits = tune(
                self.model, self.head, image[None], masks, optimizer, config.mask_ratio
            )
            before, *_ = steps = logits[:, self.outputs]
            predictions.append(Prediction(steps[-1], steps[1:], unadapted_logits=before))
        return predictions


def make_optimizer(config: TTTMAEConfig) -> MakeOptimizer:
    """A new optimizer for every image, its moments empty."""
    if config.optimizer == "adamw":
        return partial(torch.optim.AdamW, lr=config.lr, betas=(0.9, 0.95))
    return partial(torch.optim.SGD, lr=config.lr, momentum=config.momentum)
