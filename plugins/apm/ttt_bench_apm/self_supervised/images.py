"""Photographs, and the centred square of them that both the network and its teacher see."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from ttt_bench import UserError, open_image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


@runtime_checkable
class PhotographSet(Protocol):
    """Photographs by number.

    Attributes:
        names: a text for each photograph, other for another photograph.
    """

    names: list[str]

    def open(self, index: int) -> Image.Image:
        """Return the photograph in RGB."""
        ...


class PhotographFolder:
    """All photographs at or below a folder, in the order of their paths.

    Raises:
        UserError: there is no such folder, or it holds no photographs.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise UserError(f"{path}: there is no such folder; give one with photographs")
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise UserError(f"{path}: holds no {', '.join(sorted(SUFFIXES))} files; give another")
        self.files = files
        # The size of a file is cheap to read and shows that another file took its place.
        self.names = [f"{p.relative_to(path)} {p.stat().st_size}" for p in files]

    def open(self, index: int) -> Image.Image:
        """Return the photograph in RGB."""
        return open_upright(self.files[index])


def open_upright(path: Path) -> Image.Image:
    """Open a photograph in RGB, turned as its camera recorded.

    Args:
        path: the file.

    Raises:
        UserError: the file cannot be read as an image, or the image is too large.
    """
    return ImageOps.exif_transpose(open_image(path))


def square(image: Image.Image, side: int) -> UInt8[Tensor, "3 side side"]:
    """Return the largest centred square of an image, resized.

    Args:
        image: the whole image in RGB.
        side: pixels per side of the result.
    """
    resized = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)  # (S, S, 3) -> (3, S, S)


def to_unit_range(images: Num[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch 3 side side"]:
    """Scale each image so that its smallest value is 0 and its largest 1, as the release does."""
    values = images.float()
    low = values.amin(dim=(1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    spread = values.amax(dim=(1, 2, 3), keepdim=True) - low
    # An image of a single value has no scale: it becomes black.
    return (values - low) / spread.clamp(min=1e-6)


def to_array(image: Float[Tensor, "3 side side"]) -> Float[np.ndarray, "side side 3"]:
    """Return an image as an array to be drawn."""
    return image.permute(1, 2, 0).cpu().numpy()  # (3, S, S) -> (S, S, 3)
