"""TextAdapter and ViewAdapter: methods on the class texts and the features of images or views."""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    Adapter,
    AdapterConfig,
    AugMixViews,
    CropViews,
    DualEncoder,
    Inputs,
    Sample,
    SampleRNG,
    Task,
    ViewSet,
    batch_invariant_matmul,
)
from ttt_bench_clip_tta.prompts import PromptConfig, class_texts
from ttt_bench_clip_tta.views import number_kept


class OneByOneConfig(AdapterConfig):
    """The field of a method whose samples follow one another, whatever their batches."""

    batch_size: int = Field(
        default=1, ge=1, description="samples in a batch; changes no prediction"
    )


class EncodedTogetherConfig(OneByOneConfig):
    """The field of such a method that sees plain images, which are encoded many at a time."""

    batch_size: int = Field(
        default=16, ge=1, description="samples in a batch; changes no prediction"
    )


class ViewConfig(PromptConfig):
    """The fields of a method that looks at views; the defaults are the views of `tpt`."""

    views: int = Field(
        64, ge=1, le=100_000, description="views per image, the unaugmented one included"
    )
    augmix: bool | None = Field(
        None, description="whether random views are AugMix ones; null asks the dataset"
    )


class ConfidentViewConfig(ViewConfig):
    """The fields of a method that keeps the confident views."""

    selection: float = Field(
        0.1, gt=0, le=1, description="share of the views to keep, those of lowest entropy"
    )

    @model_validator(mode="after")
    def _keeps_a_view(self) -> "ConfidentViewConfig":
        if number_kept(self.views, self.selection) < 1:
            raise ValueError(f"a share of {self.selection} of {self.views} views keeps none")
        return self


PromptConfigT = TypeVar("PromptConfigT", bound=PromptConfig)
ViewConfigT = TypeVar("ViewConfigT", bound=ViewConfig)


class TextAdapter(Adapter[PromptConfigT]):
    """A method that scores features by the class texts.

    Attributes:
        text: the unit text feature of each class.
        scale: the factor of cosines.
    """

    uses_backbone_classifier = False

    @override
    @torch.no_grad()
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.text = class_texts(task, self.config)
        self.scale = task.require(DualEncoder).logit_scale.detach().float()
        self.begin()

    def begin(self) -> None:
        """Begin a stream. A method without state has nothing to begin."""

    def encode_images(self, samples: Sequence[Sample]) -> Float[Tensor, "batch dim"]:
        """Return unit features of the images of samples."""
        return F.normalize(self.task.encode_image(samples), dim=1)

    def logits(
        self, features: Float[Tensor, "batch views dim"]
    ) -> Float[Tensor, "batch views classes"]:
        """Return the scaled cosines of unit features to the class texts."""
        return self.scale * batch_invariant_matmul(features, self.text.T)


class ViewAdapter(TextAdapter[ViewConfigT]):
    """A method that scores the protocol's views of a sample by the class texts."""

    def view_set(self, task: Task) -> ViewSet:
        """Return the recipe of the views; the one of every method with the same two fields."""
        augmix = task.augmix if self.config.augmix is None else self.config.augmix
        return (AugMixViews if augmix else CropViews)(self.config.views)

    @override
    def inputs(self, task: Task) -> Inputs:
        if self.config.views == 1:
            return Inputs()
        return Inputs(image_features=False, view_features=(self.view_set(task),))

    def encode(
        self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch views dim"]:
        """Return unit features of the views of samples; the first view is the image itself."""
        if self.config.views == 1:
            features = self.task.encode_image(samples)[:, None]  # (B, D) -> (B, 1, D)
        else:
            features = self.task.encode_views(samples, rngs, self.view_set(self.task))
        return F.normalize(features, dim=2)
