"""Task: a dataset's classes and a backbone under the protocol, the same for every method."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench.api import cost
from ttt_bench.api.backbone import Backbone, FeatureClassifier, TrainableClassifier
from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.errors import UserError
from ttt_bench.api.forward_precision import forward_precision
from ttt_bench.api.inputs import NormalDraw
from ttt_bench.api.precision import Precision
from ttt_bench.api.sample import Sample, SampleRNG
from ttt_bench.api.views import ViewSet
from ttt_bench.api.working_copy import WorkingCopy

CapabilityT = TypeVar("CapabilityT", bound=Backbone)
ValueT = TypeVar("ValueT")
# Pillow images. A type check that looks at one would decode it.
LazyImages = Sequence[Any]


class Task:
    """Everything that the methods of a table share: classes, backbone, device.

    Attributes:
        backbone: the frozen model; a method leaves its weights alone or puts them back.
        classes: the candidate classes, in the order of the logits.
        augmix: whether methods that draw views should draw AugMix ones, as TPT's authors do on
            fine-grained datasets.
        precision: the precision of the backbone's forward pass.
        made: what methods have made for all of their streams, by name, see `once`.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: ClassSet,
        augmix: bool = False,
        precision: Precision = "fp32",
        source_images: LazyImages = (),
        source_labels: Sequence[int] = (),
    ) -> None:
        self.backbone = backbone
        self.classes = classes
        self.augmix = augmix
        self.precision: Precision = precision
        self.made: dict[str, Any] = {}
        self._source_images = source_images
        self._source_labels = source_labels

    @property
    def source_images(self) -> LazyImages:
        """The dataset's training images, decoded when they are read.

        A method that reads them says so in `AdapterSpec.labelled_data`.
        """
        return self._source_images

    @property
    def source_labels(self) -> Sequence[int]:
        """The class of each of `source_images`; no label of a test image is among them.

        A method that reads them says so in `AdapterSpec.labelled_data`.
        """
        return self._source_labels

    def once(self, name: str, make: Callable[[], ValueT]) -> ValueT:
        """Return what `make` has returned when it was first asked for under this name.

        `setup` runs anew for each stream. What is costly and the same for all of them, such as
        statistics of the training images, is made once. It is no part of a method's state, and must
        not change.

        Args:
            name: what it is, with everything that it depends on.
            make: makes it.

        Example:
            self.prototypes = task.once(f"prototypes of {n} images", lambda: self.average(n))
        """
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

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

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Compute a forward pass of the backbone inside, in the run's precision.

        The methods of this class do so themselves. A method that runs the backbone's network on its
        own does it inside of this.
        """
        with forward_precision(self.device, self.precision):
            yield

    def pixels(
        self, samples: Sequence[Sample], size: int | None = None
    ) -> Float[Tensor, "batch 3 side side"]:
        """Transform images with the backbone's own transform, to its own side or to `size`."""
        images = [self.backbone.preprocess(sample.image, size) for sample in samples]
        return torch.stack(images).to(self.device)

    def view_pixels(
        self, sample: Sample, rng: SampleRNG, view_set: ViewSet
    ) -> Float[Tensor, "views 3 side side"]:
        """Return the views of a sample, transformed, on the device; the first is the image itself.

        Args:
            sample: the sample.
            rng: its random generators.
            view_set: the recipe of the views.
        """
        drawn = view_set.draw(sample.image, rng, self.backbone.image_size)
        images = torch.stack([self.backbone.preprocess(image) for image in drawn.images])
        numbers = {name: torch.from_numpy(values) for name, values in drawn.numbers.items()}
        return view_set.combine(
            images.to(self.device),
            {name: values.to(self.device) for name, values in numbers.items()},
        )

    def draw(self, rngs: Sequence[SampleRNG], draw: NormalDraw) -> list[dict[str, Tensor]]:
        """Return the numbers of a draw for each sample, on the device."""
        return [
            {name: values.to(self.device) for name, values in draw.make(rng).items()}
            for rng in rngs
        ]

    @torch.no_grad()
    def encode_image(self, samples: Sequence[Sample]) -> Float[Tensor, "batch dim"]:
        """Return the frozen backbone's image features, not normalized.

        The cost is booked as the frozen model's. A backbone that the method has changed is asked
        by `task.backbone.encode_image`.
        """
        return self.encode_pixels(self.pixels(samples))

    @torch.no_grad()
    def encode_views(
        self, samples: Sequence[Sample], rngs: Sequence[SampleRNG], view_set: ViewSet
    ) -> Float[Tensor, "batch views dim"]:
        """Return the frozen backbone's features of each sample's views, not normalized.

        The cost is booked as the frozen model's.

        Args:
            samples: the samples.
            rngs: the random generators of each sample.
            view_set: the recipe of the views.
        """
        group = self.view_group(view_set)
        features = [
            self.encode_pixels(self.view_pixels(sample, rng, view_set), group)
            for sample, rng in zip(samples, rngs, strict=True)
        ]
        return torch.stack(features)  # (B, views, dim)

    def view_group(self, view_set: ViewSet) -> int:
        """Return how many views of a sample pass at once: groups of one size, without padding."""
        groups = -(-view_set.count // self.backbone.view_group)
        return -(-view_set.count // groups)

    @torch.no_grad()
    def encode_pixels(
        self, pixels: Float[Tensor, "batch 3 side side"], group: int | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Return the frozen backbone's features of transformed images, in float32.

        The cost is booked as the frozen model's.

        Args:
            pixels: the images.
            group: how many pass at once; None for the backbone's own number.
        """
        with cost.phase("frozen"), self.forward_pass():
            return self.batch_invariant(self.backbone.encode_image, pixels, group).float()

    def batch_invariant(
        self,
        compute: Callable[[Float[Tensor, "group 3 side side"]], Float[Tensor, "group values"]],
        pixels: Float[Tensor, "batch 3 side side"],
        group: int | None = None,
    ) -> Float[Tensor, "batch values"]:
        """Apply `compute` to images in batches of one fixed size.

        Kernels, and with them the rounding, change with the size of a batch. A fixed size makes
        every result independent of how many images came together.

        Args:
            compute: a function of a batch of images.
            pixels: the images.
            group: the size of a batch, None for the backbone's own.
        """
        return self.backbone.batch_invariant(compute, pixels, group)

    @torch.no_grad()
    def build_classifier(self, templates: Sequence[str]) -> FeatureClassifier:
        """Build the backbone's classifier with an ensemble of templates.

        A dual encoder classifies by the scaled cosine to the class text features, a `Classifier`
        by its own head.

        Raises:
            UserError: the backbone cannot classify into these classes.
        """
        with self.forward_pass():
            return self.backbone.build_classifier(self.classes, templates)

    @cached_property
    def classifier(self) -> FeatureClassifier:
        """The backbone's classifier with the dataset's single prompt."""
        return self.build_classifier([self.classes.prompt])

    @torch.no_grad()
    def working_copy(self) -> WorkingCopy:
        """Return a copy of the classifier for the method to train; the backbone stays as it is.

        Raises:
            UserError: the backbone gives none, or cannot classify into these classes.
        """
        backbone = self.require(TrainableClassifier)
        return backbone.working_copy(self.classes, [self.classes.prompt])

    @torch.no_grad()
    def class_weights(self) -> Float[Tensor, "classes dim"]:
        """Return the vector of each class with which the classifier multiplies a feature.

        Raises:
            UserError: the backbone does not classify by a linear layer.
        """
        backbone = self.require(TrainableClassifier)
        return backbone.class_weights(self.classes, [self.classes.prompt])

    def logits(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch classes"]:
        """Classify features with the backbone's classifier."""
        return self.classifier(features)
