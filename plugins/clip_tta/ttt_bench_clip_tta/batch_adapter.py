"""TowerAdapter: a method that trains a copy of the image tower on each batch, and forgets it."""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    Adapter,
    AdapterConfig,
    DualEncoder,
    Inputs,
    Prediction,
    Sample,
    SampleRNG,
    Task,
)
from ttt_bench_clip_tta.layer_norms import LayerNorms


class TowerConfig(AdapterConfig):
    """The fields of a method that trains LayerNorm layers of the image tower on a batch."""

    batch_size: int = Field(default=128, ge=1, description="samples in a batch")
    lr: float = Field(1e-3, gt=0, description="learning rate of Adam")


TowerConfigT = TypeVar("TowerConfigT", bound=TowerConfig)


class TowerAdapter(Adapter[TowerConfigT]):
    """A method that trains the LayerNorm layers of a copy of the image tower on each batch.

    Attributes:
        model: the copy, equal to the backbone's between batches.
        norms: its LayerNorm layers.
        source: their values between batches.
        scale: the factor of cosines.
        texts: the unit text feature of each class, with which a batch is classified.
    """

    uses_backbone_classifier = False

    @override
    def inputs(self, task: Task) -> Inputs:
        return Inputs(image_features=False, pixels=(None,))

    @override
    @torch.no_grad()
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.model = task.working_copy()
        self.norms = LayerNorms(self.model)
        self.source = self.norms.values()
        self.scale = task.require(DualEncoder).logit_scale.detach().float()
        with task.forward_pass():
            self.texts = self.class_texts()

    def class_texts(self) -> Float[Tensor, "classes dim"]:
        """Return the unit text feature of each class by the protocol's prompt."""
        classes = self.task.classes
        return self.task.require(DualEncoder).class_features(classes.names, [classes.prompt])

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        pixels = self.task.pixels(samples)
        try:
            with self.task.forward_pass():
                before = self._classify(pixels)
                self.learn(pixels)
                after = self._classify(pixels)
        finally:
            self.norms.put(self.source)
        return [Prediction(a, None, b) for a, b in zip(after, before, strict=True)]

    def learn(self, pixels: Float[Tensor, "batch 3 side side"]) -> None:
        """Train the copy on a batch."""
        raise NotImplementedError

    @torch.no_grad()
    def _classify(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch classes"]:
        unit = F.normalize(self.model.features(pixels).float(), dim=1)
        return self.scale * unit @ self.texts.T
