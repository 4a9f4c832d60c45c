"""Task: a dataset's classes and a backbone under the protocol, the same for every method."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench.api import cost
from ttt_bench.api.backbone import Backbone, FeatureClassifier
from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.errors import UserError
from ttt_bench.api.sample import Sample

CapabilityT = TypeVar("CapabilityT", bound=Backbone)


class Task:
    """Everything that the methods of a table share: classes, backbone, device.

    Attributes:
        backbone: the frozen model; a method leaves its weights alone or puts them back.
        classes: the candidate classes, in the order of the logits.
        augmix: whether methods that draw views should draw AugMix ones, as TPT's authors do on
            fine-grained datasets.
    """

    def __init__(self, backbone: Backbone, classes: ClassSet, augmix: bool = False) -> None:
        self.backbone = backbone
        self.classes = classes
        self.augmix = augmix

    @property
    def device(self) -> torch.device:
        """The device that holds the backbone and where a method should compute."""
        return self.backbone.device

    def require(self, capability: type[CapabilityT]) -> CapabilityT:
        """Return the backbone as one of a capability, such as `DualEncoder`.

        Raises:
            UserError: the backbone lacks the capability.
        """
        if not isinstance(self.backbone, capability):
            raise UserError(
                f"{type(self.backbone).__name__} is no {capability.__name__}; choose another "
                "--backbone"
            )
        return self.backbone

    def pixels(
        self, samples: Sequence[Sample], size: int | None = None
    ) -> Float[Tensor, "batch 3 side side"]:
        """Transform images with the backbone's own transform, to its own side or to `size`."""
        images = [self.backbone.preprocess(sample.image, size) for sample in samples]
        return torch.stack(images).to(self.device)

    @torch.no_grad()
    def encode_image(self, samples: Sequence[Sample]) -> Float[Tensor, "batch dim"]:
        """Return the frozen backbone's image features, not normalized.

        The cost is booked as the frozen model's. A backbone that the method has changed is asked
        by `task.backbone.encode_image`.
        """
        with cost.phase("frozen"):
            return self.batch_invariant(self.backbone.encode_image, self.pixels(samples))

    def batch_invariant(
        self,
        compute: Callable[[Float[Tensor, "group 3 side side"]], Float[Tensor, "group values"]],
        pixels: Float[Tensor, "batch 3 side side"],
    ) -> Float[Tensor, "batch values"]:
        """Apply `compute` to images in batches of one fixed size.

        Kernels, and with them the rounding, change with the size of a batch. A fixed size makes
        every result independent of how many images came together.
        """
        return self.backbone.batch_invariant(compute, pixels)

    @torch.no_grad()
    def encode_views(self, views: Float[Tensor, "views 3 side side"]) -> Float[Tensor, "views dim"]:
        """Return the features of one sample's views, all in one batch.

        The cost is booked as the frozen model's.
        """
        with cost.phase("frozen"):
            return self.backbone.encode_image(views)

    @torch.no_grad()
    def build_classifier(self, templates: Sequence[str]) -> FeatureClassifier:
        """Build the backbone's classifier with an ensemble of templates.

        A dual encoder classifies by the scaled cosine to the class text features, a `Classifier`
        by its own head.

        Raises:
            UserError: the backbone cannot classify into these classes.
        """
        return self.backbone.build_classifier(self.classes, templates)

    @cached_property
    def classifier(self) -> FeatureClassifier:
        """The backbone's classifier with the dataset's single prompt."""
        return self.build_classifier([self.classes.prompt])

    def logits(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch classes"]:
        """Classify features with the backbone's classifier."""
        return self.classifier(features)
