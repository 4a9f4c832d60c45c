"""What every backbone gives."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ttt_bench.errors import UserError

IMAGENET_CLASSES = 1000

Transform = Callable[[Image.Image], Float[Tensor, "3 side side"]]
Classifier = Callable[[Float[Tensor, "*batch dim"]], Float[Tensor, "*batch classes"]]


class Backbone(ABC):
    """A frozen, pretrained image model and its own way to classify.

    Attributes:
        model: the network, in eval mode, its parameters not asking for gradients.
        device: where it is.
        feature_dim: D, the size of an image feature.
        image_size: S, the side in pixels of its input.
        takes_weights: whether it can be loaded from a local file of weights.
    """

    takes_weights: ClassVar[bool] = False

    model: nn.Module
    device: torch.device
    feature_dim: int
    image_size: int

    # Images that pass at once off the CPU. Groups always have this size, the last one padded, so
    # that the kernels chosen, and with them the rounding, never depend on how many samples came.
    group: ClassVar[int] = 32

    @abstractmethod
    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        """Load the model that `argument` names (the part after the colon) onto `device`.

        Args:
            weights: a file to take in place of the published weights; None for a backbone that does
                not take any.

        Raises:
            UserError: there is no such model, or its weights cannot be had.
        """

    @abstractmethod
    def make_transform(self, size: int) -> Transform:
        """The model's own transform from an image in RGB to its input, at `size` pixels a side."""

    def preprocess(
        self, image: Image.Image, size: int | None = None
    ) -> Float[Tensor, "3 side side"]:
        """The model's own transform, at its own side or at `size` pixels."""
        return self._transform(size or self.image_size)(image)

    @cached_property
    def _transform(self) -> Callable[[int], Transform]:
        """Transforms by size, each made once."""
        return cache(self.make_transform)

    @abstractmethod
    def encode_image(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch dim"]:
        """Raw image features, before any normalization."""

    def encode_patches(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        """Features of the patches, as they leave the last norm, without CLS and registers.

        A backbone that declares the capability `patch_features` gives them at its own side, and at
        another one where its network can be asked at one.

        Raises:
            UserError: it has none, or none at this side.
        """
        raise UserError(
            "this backbone gives no patch features; see `ttt-bench list backbones` for one that "
            "does, as tiny-clip"
        )

    @abstractmethod
    def classifier(
        self,
        class_names: Sequence[str],
        templates: Sequence[str],
        imagenet_indices: Sequence[int] | None = None,
    ) -> Classifier:
        """The rule from features to logits, in the order of the class names.

        Args:
            templates: of prompts; a model with a text tower makes its rule of them.
            imagenet_indices: which of ImageNet-1k's 1000 classes these are, None where they are not
                ImageNet's; a model with a head picks its outputs by them.

        Raises:
            UserError: the model has no rule for these classes.
        """

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """What the protocol card records: weights' hash, dtype, activation, transform."""

    def in_fixed_groups(
        self,
        compute: Callable[[Float[Tensor, "group 3 side side"]], Float[Tensor, "group values"]],
        pixels: Float[Tensor, "batch 3 side side"],
    ) -> Float[Tensor, "batch values"]:
        """What `compute` makes of any number of images, each in a batch of one fixed size."""
        size = 1 if self.device.type == "cpu" else self.group
        results = []
        for part in pixels.split(size):
            padding = part[-1:].expand(size - len(part), -1, -1, -1)
            results.append(compute(torch.cat([part, padding]))[: len(part)])
        return torch.cat(results)

    def weights_hash(self) -> str:
        """SHA-256 over every entry of the model's state dict, in its order: name, then bytes."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def head_outputs(
    whose: str, outputs: int, classes: int, imagenet_indices: Sequence[int] | None
) -> list[int]:
    """Which outputs of a trained head are a dataset's classes, in the dataset's order.

    Args:
        whose: the head's owner, for the message.
        imagenet_indices: which of ImageNet-1k's 1000 classes the dataset's are, None where they are
            not ImageNet's.

    Raises:
        UserError: the head has not one output for each class, nor ImageNet-1k's.
    """
    if imagenet_indices is not None and outputs == IMAGENET_CLASSES:
        return list(imagenet_indices)
    if outputs == classes:
        return list(range(outputs))
    raise UserError(
        f"{whose} head has {outputs} outputs, the dataset has {classes} classes; "
        "take a dataset of the head's classes, or weights with a head for these"
    )
