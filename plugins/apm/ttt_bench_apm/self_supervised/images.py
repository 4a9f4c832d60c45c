"""From photographs to what the network and its teacher see: one square, in two scalings."""

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
class Photographs(Protocol):
    """Images by number, each with a name that tells it from the others."""

    names: list[str]

    def open(self, index: int) -> Image.Image:
        """The image in RGB."""
        ...


class Folder:
    """All photographs at or below a folder, in the order of their paths.

    Raises:
        UserError: there is no such folder, or nothing in it.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise UserError(f"{path}: there is no such folder; give one with photographs")
        self.path = path
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise UserError(f"{path}: holds no {', '.join(sorted(SUFFIXES))} files; give another")
        self.files = files
        # The size of a file is cheap to read and tells that another one took its place.
        self.names = [f"{p.relative_to(path)} {p.stat().st_size}" for p in files]

    def open(self, index: int) -> Image.Image:
        """The image in RGB."""
        return open_upright(self.files[index])


def open_upright(path: Path) -> Image.Image:
    """A photograph in RGB, turned as its camera says.

    Raises:
        UserError: it cannot be read as an image, or is too large.
    """
    return ImageOps.exif_transpose(open_image(path))


def square(image: Image.Image, side: int) -> UInt8[Tensor, "3 side side"]:
    """The largest centred square of an image, resized: the part that network and teacher see."""
    fitted = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)


def to_unit_range(images: Num[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch 3 side side"]:
    """Each image scaled so that its smallest value is 0 and its largest 1, as released."""
    values = images.float()
    low = values.amin(dim=(1, 2, 3), keepdim=True)
    spread = values.amax(dim=(1, 2, 3), keepdim=True) - low
    # An image of one single value has no scale: it is black.
    return (values - low) / spread.clamp(min=1e-6)
