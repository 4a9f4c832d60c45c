"""Masked autoencoders as backbones: the embedded one, the published one, and files."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from PIL import Image
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor
from typing_extensions import override

from ttt_bench import MaskedAutoencoder, PatchEncoder, UserError
from ttt_bench_ttt_mae.checkpoints import autoencoder, read
from ttt_bench_ttt_mae.files import EMBEDDED, locate
from ttt_bench_ttt_mae.model import MAENetwork
from ttt_bench_ttt_mae.transform import CROP, MEAN, STD, centre_crop


class MAEBackbone(MaskedAutoencoder, PatchEncoder):
    """`mae:vit-large` or `mae:FILE`: the encoder and decoder of a checkpoint, without a head."""

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self._load(locate(argument), device)

    def _load(self, path: Path, device: torch.device) -> None:
        checkpoint = read(path)
        self.model = autoencoder(checkpoint).to(device)
        self.device = device
        self.feature_dim = self.network.sizes.encoder.width
        self.image_size = self.network.sizes.image
        self.crop = float(checkpoint.about.get("crop", CROP))

    @property
    def network(self) -> MAENetwork:
        """The model, typed."""
        return cast(MAENetwork, self.model)

    @override
    def make_transform(self, size: int) -> Callable[[Image.Image], Tensor]:
        return centre_crop(size, self.crop)

    @override
    def encode_image(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch dim"]:
        return self.model(pixels)[:, 0]  # the CLS token

    @override
    def encode_patches(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        model = _at_side(self.network, pixels.shape[-1])
        grid = model.sizes.grid
        patches = model(pixels)[:, 1:]  # (batch, patches, dim)
        return patches.unflatten(1, (grid, grid))  # (batch, rows, columns, dim)

    @property
    @override
    def mask_grid(self) -> int:
        return self.network.sizes.grid

    @override
    def reconstruction_loss(
        self,
        images: Float[Tensor, "images 3 side side"],
        noise: Float[Tensor, "copies patches"],
        mask_ratio: float,
    ) -> Float[Tensor, ""]:
        return self.network.reconstruction_loss(images, noise, mask_ratio)

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


class TinyMAE(MAEBackbone):
    """`tiny-mae`: the embedded masked autoencoder, pretrained on CIFAR-10's training images."""

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self._load(EMBEDDED / "tiny-mae.pth", device)


def _at_side(model: MAENetwork, side: int) -> MAENetwork:
    """Return the model for images of a side, its position codes resampled to it.

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
