"""Two backbones whose feature is the mean colour: with a text tower, and with a head."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from squares import COLOURS
from torch import Tensor, nn

from ttt_bench import Backbone, BackboneSpec, Classifier, DualEncoder, Transform, hookimpl


class MeanColour(nn.Module):
    """A network without weights."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the mean colour of each image."""
        return pixels.mean((2, 3))  # (batch, 3)


class LabBackbone(Backbone):
    """The mean colour of an image is its feature."""

    feature_dim = 3
    image_size = 8

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self.device = device
        self.model = MeanColour().to(device).eval()

    def make_transform(self, size: int) -> Transform:
        """Return the resize to a square of `size` pixels, from 0 to 1."""

        def transform(image: Image.Image) -> Tensor:
            levels = torch.tensor(list(image.resize((size, size)).tobytes()))
            return levels.view(size, size, 3).permute(2, 0, 1) / 255  # (3, size, size)

        return transform

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return the feature of each image."""
        return self.model(pixels)

    def card(self) -> dict[str, Any]:
        """Return what identifies the model on the protocol card."""
        return {"weights": self.weights_hash(), "dtype": "float32", "transform": "resize"}


class Clip(LabBackbone, DualEncoder):
    """A dual encoder: the feature of a text is the colour that it names."""

    tokenizer = staticmethod(str.split)

    @property
    def logit_scale(self) -> Tensor:
        """The factor on cosines."""
        return torch.tensor(10.0, device=self.device)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Return the feature of each prompt."""
        words = [prompt.rstrip(".").split() for prompt in prompts]
        colours = [next(COLOURS[word] for word in line if word in COLOURS) for line in words]
        return torch.tensor(colours, dtype=torch.float32, device=self.device)


class Head(LabBackbone, Classifier):
    """A classifier: each colour channel is the score of a class."""

    num_classes = 3

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of features."""
        return 20 * features


@hookimpl
def ttt_bench_backbones() -> list[BackboneSpec]:
    """Return the backbones of this file, each with its capabilities."""
    return [
        BackboneSpec(
            name="lab-clip",
            summary="mean colour, with a text tower",
            code="mean_colour:Clip",
            gives=frozenset({"DualEncoder"}),
        ),
        BackboneSpec(
            name="lab-head",
            summary="mean colour, with a head",
            code="mean_colour:Head",
            gives=frozenset({"Classifier"}),
        ),
    ]
