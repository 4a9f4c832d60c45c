"""Backbone and its capabilities: what the author of a model implements, and what a method asks for.

A capability is a class. `AdapterSpec.needs` and `BackboneSpec.gives` name them, and
`task.require(DualEncoder)` returns the backbone as one.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ttt_bench.api import cost
from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.errors import UserError
from ttt_bench.api.working_copy import WorkingCopy

Transform = Callable[[Image.Image], Float[Tensor, "3 side side"]]
FeatureClassifier = Callable[[Float[Tensor, "*batch dim"]], Float[Tensor, "*batch classes"]]


class Backbone(ABC):
    """A frozen, pretrained image model.

    Attributes:
        model: the network, in eval mode, its parameters not asking for gradients.
        device: the device that holds it.
        feature_dim: D, the size of an image feature.
        image_size: S, the side in pixels of its input.
        takes_weights: whether it can be loaded from a local file of weights.
        group: how many images pass at once.
    """

    takes_weights: ClassVar[bool] = False

    model: nn.Module
    device: torch.device
    feature_dim: int
    image_size: int

    # Groups always have this size, the last one padded, so that the kernels chosen, and with them
    # the rounding, never depend on how many samples came.
    group: ClassVar[int] = 16

    @property
    def view_group(self) -> int:
        """How many views pass at once; a GPU needs more than a CPU to be busy."""
        return self.group if self.device.type == "cpu" else 4 * self.group

    @abstractmethod
    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        """Load the model that `argument` names (the part after the colon) onto `device`.

        Args:
            argument: the part after the colon in `name:ARGUMENT`, "" for none.
            device: the device to load onto.
            weights: a file to take in place of the published weights; None for a backbone that does
                not take any.

        Raises:
            UserError: there is no such model, or its weights cannot be loaded.
        """

    @abstractmethod
    def make_transform(self, size: int) -> Transform:
        """Return the model's own transform from an RGB image to its input of `size` pixels."""

    def preprocess(
        self, image: Image.Image, size: int | None = None
    ) -> Float[Tensor, "3 side side"]:
        """Apply the model's own transform, at its own side or at `size` pixels."""
        return self._transform(size or self.image_size)(image)

    @cached_property
    def _transform(self) -> Callable[[int], Transform]:
        """Transforms by size, each made once."""
        return cache(self.make_transform)

    @abstractmethod
    def encode_image(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch dim"]:
        """Return image features, before any normalization."""

    def build_classifier(self, classes: ClassSet, templates: Sequence[str]) -> FeatureClassifier:
        """Build the map from features `[... dim]` to logits `[... classes]`.

        Args:
            classes: the candidate classes, in the order of the logits.
            templates: prompt templates; a model with a text tower classifies by them.

        Raises:
            UserError: the model cannot classify into these classes.
        """
        raise UserError(
            "this backbone has no classifier of its own; take a method that brings a head"
        )

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """Return what the protocol card records: hash of the weights, dtype, transform."""

    def batch_invariant(
        self,
        compute: Callable[[Float[Tensor, "group 3 side side"]], Float[Tensor, "group values"]],
        pixels: Float[Tensor, "batch 3 side side"],
        group: int | None = None,
    ) -> Float[Tensor, "batch values"]:
        """Apply `compute` to any number of images, in batches of one fixed size.

        While costs are counted, the last batch is not padded: padding is no cost of the images.

        Args:
            compute: a function of a batch of images.
            pixels: the images.
            group: the size of a batch, None for `self.group`.
        """
        size = group or self.group
        results = []
        for part in pixels.split(size):
            missing = 0 if cost.counting() else size - len(part)
            if missing:
                padding = part[-1:].expand(missing, -1, -1, -1)
                part = torch.cat([part, padding])
            results.append(compute(part)[: size - missing])
        return torch.cat(results)

    def weights_hash(self) -> str:
        """Return the SHA-256 of the model's state dict, entry by entry: name, then bytes."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


# A single prompt at a time leaves a device idle; all prompts of 1000 classes may fill its memory.
PROMPTS_AT_ONCE = 64


class DualEncoder(Backbone):
    """A backbone with a text tower in the same feature space, such as CLIP.

    Attributes:
        tokenizer: turns prompts into token ids; also encodes single words.
    """

    tokenizer: Any

    @property
    @abstractmethod
    def logit_scale(self) -> Float[Tensor, ""]:
        """The learned factor of cosines, 1 / temperature."""

    @abstractmethod
    def encode_text(self, prompts: Sequence[str]) -> Float[Tensor, "prompts dim"]:
        """Return text features of whole prompts, before any normalization."""

    def class_features(
        self, names: Sequence[str], templates: Sequence[str]
    ) -> Float[Tensor, "classes dim"]:
        """Return unit text features: the mean over templates of unit features, normalized again.

        Source: CLIP (Radford et al. 2021, section 3.1.4).
        """
        means: list[Tensor] = []
        at_once = max(1, PROMPTS_AT_ONCE // len(templates))
        for start in range(0, len(names), at_once):
            some = names[start : start + at_once]
            prompts = [template.format(name) for name in some for template in templates]
            units = F.normalize(self.encode_text(prompts).float(), dim=-1)
            # (n * templates, dim) -> (n, templates, dim) -> (n, dim)
            means.append(units.unflatten(0, (len(some), len(templates))).mean(1))
        return F.normalize(torch.cat(means), dim=-1)

    def build_classifier(self, classes: ClassSet, templates: Sequence[str]) -> FeatureClassifier:
        """Build the zero-shot classifier: scaled cosine to the class text features."""
        text = self.class_features(classes.names, templates)
        scale = self.logit_scale

        def scaled_cosine(features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch classes"]:
            return scale * F.normalize(features, dim=-1) @ text.T

        return scaled_cosine


class Classifier(Backbone):
    """A backbone with a trained classification head on its image feature.

    Attributes:
        num_classes: outputs of the head; 0 for a model without one.
    """

    num_classes: int

    @abstractmethod
    def head(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch outputs"]:
        """Return the head's outputs for features."""

    def build_classifier(self, classes: ClassSet, templates: Sequence[str]) -> FeatureClassifier:
        """Build the classifier from the head's outputs for these classes."""
        columns = torch.tensor(
            classes.head_outputs("the backbone's", self.num_classes), device=self.device
        )

        def own_head(features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch classes"]:
            return self.head(features)[..., columns]

        return own_head


class TrainableClassifier(Backbone):
    """A backbone whose classifier a method may copy and train."""

    @abstractmethod
    def working_copy(self, classes: ClassSet, templates: Sequence[str]) -> WorkingCopy:
        """Return a copy of the image network with the classifier of these classes.

        Args:
            classes: the candidate classes, in the order of the logits.
            templates: prompt templates; a model with a text tower classifies by them.

        Raises:
            UserError: the model cannot classify into these classes.
        """

    @abstractmethod
    def class_weights(
        self, classes: ClassSet, templates: Sequence[str]
    ) -> Float[Tensor, "classes dim"]:
        """Return the vector of each class with which the classifier multiplies a feature.

        A head's last linear layer has a row for each class; a dual encoder has text features.

        Args:
            classes: the candidate classes, in the order of the logits.
            templates: prompt templates; a model with a text tower classifies by them.

        Raises:
            UserError: the model cannot classify into these classes, or not by a linear layer.
        """


class BatchNormClassifier(TrainableClassifier):
    """A trainable classifier whose image network has BatchNorm2d layers."""


class PatchEncoder(Backbone):
    """A backbone that gives a feature for every patch of an image."""

    @abstractmethod
    def encode_patches(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        """Return patch features as they leave the last norm, without CLS and register tokens.

        Raises:
            UserError: the model gives none at this side.
        """


class MaskedAutoencoder(Backbone):
    """A backbone whose network reconstructs the hidden patches of an image."""

    @property
    @abstractmethod
    def mask_grid(self) -> int:
        """Patches per side of the image."""

    @abstractmethod
    def reconstruction_loss(
        self,
        images: Float[Tensor, "images 3 side side"],
        noise: Float[Tensor, "copies patches"],
        mask_ratio: float,
    ) -> Float[Tensor, ""]:
        """Return the mean squared error of the hidden patches.

        Args:
            images: one for every copy, or one for all of them.
            noise: uniform draws; the patches of the highest are hidden.
            mask_ratio: share of the patches that is hidden, 0 to 1.

        Source: He et al. 2022, arXiv 2111.06377, section 3.
        """
