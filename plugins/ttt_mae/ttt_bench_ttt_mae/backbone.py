"""Masked autoencoders as backbones: the embedded one, the published ones, and files."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from PIL import Image
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor
from typing_extensions import override

from ttt_bench import Backbone, UserError
from ttt_bench_ttt_mae.checkpoints import autoencoder, read
from ttt_bench_ttt_mae.files import EMBEDDED, locate
from ttt_bench_ttt_mae.model import MaskedAutoencoder
from ttt_bench_ttt_mae.transform import CROP, MEAN, STD, centre


class MaskedAutoencoderBackbone(Backbone):
    """`mae:vit-large`, or `mae:FILE` for a checkpoint of your own: encoder and decoder, no head.

    Attributes:
        model: a `MaskedAutoencoder`.
    """

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self._load(locate(argument), device)

    def _load(self, path: Path, device: torch.device) -> None:
        checkpoint = read(path)
        self.model = autoencoder(checkpoint).to(device)
        self.device = device
        self.feature_dim = self.model.sizes.encoder.width
        self.image_size = self.model.sizes.image
        self.crop = float(checkpoint.about.get("crop", CROP))

    @override
    def make_transform(self, size: int) -> Callable[[Image.Image], Tensor]:
        return centre(size, self.crop)

    @override
    def encode_image(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch dim"]:
        return self.model(pixels)[:, 0]

    @override
    def encode_patches(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        model = _at_side(cast(MaskedAutoencoder, self.model), pixels.shape[-1])
        grid = model.sizes.grid
        return model(pixels)[:, 1:].unflatten(1, (grid, grid))

    @override
    def classifier(
        self,
        class_names: Sequence[str],
        templates: Sequence[str],
        imagenet_indices: Sequence[int] | None = None,
    ) -> Callable[[Tensor], Tensor]:
        raise UserError("a masked autoencoder has no rule to classify by; methods bring a head")

    @override
    def card(self) -> dict[str, Any]:
        return {
            "weights": self.weights_hash(),
            "dtype": "float32",
            "activation": "GELU",
            "transform": {
                "size": self.image_size,
                "resize": round(self.image_size / self.crop),
                "interpolation": "bicubic",
                "mean": list(MEAN),
                "std": list(STD),
            },
        }


class TinyMae(MaskedAutoencoderBackbone):
    """`tiny-mae`: the embedded masked autoencoder, pretrained on CIFAR-10's training images."""

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self._load(EMBEDDED / "tiny-mae.pth", device)


def _at_side(model: MaskedAutoencoder, side: int) -> MaskedAutoencoder:
    """The model for images of a side; for another than its own, position codes are resampled.

    Raises:
        UserError: the side is no whole number of patches.
    """
    sizes, patch = model.sizes, model.sizes.patch
    if side == sizes.image:
        return model
    if side % patch:
        raise UserError(f"images of {side} pixels are no whole number of patches of {patch}")
    resized = copy.deepcopy(model)
    resized.sizes = replace(sizes, image=side)
    resized.patch_embed.set_input_size(img_size=side)
    new, old = ([grid, grid] for grid in (resized.sizes.grid, sizes.grid))
    resized.pos_embed.data = resample_abs_pos_embed(model.pos_embed.data, new, old)
    return resized
