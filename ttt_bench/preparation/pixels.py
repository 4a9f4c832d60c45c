"""PixelMaker: transformed images, as bytes on the way to the device where that is exact.

A model's transform ends with a conversion to numbers from 0 to 1 and a normalization. What comes
before gives whole numbers from 0 to 255: a quarter of the size, and normalizing them on the device
gives the same floats.
"""

from collections.abc import Callable, Sequence
from functools import cache, cached_property

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize

from ttt_bench.api.backbone import Backbone, Transform

CHANNELS = 3
LEVELS = 255
# The side of the noise on which a transform is tried.
TRIED_SIDE = 40


class PixelMaker:
    """The transform of a backbone in two parts: on the host, and on the device."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def dtype(self, size: int | None) -> type[np.generic]:
        """Return the type of the numbers that `prepare` gives."""
        return np.float32 if self._split(size) is None else np.uint8

    def bytes(self, size: int | None, images: int = 1) -> int:
        """Return the size of that many prepared images, in bytes."""
        side = size or self.backbone.image_size
        return images * CHANNELS * side**2 * np.dtype(self.dtype(size)).itemsize

    def prepare(
        self, images: Sequence[Image.Image], size: int | None, into: np.ndarray | None = None
    ) -> np.ndarray:
        """Transform images as far as the host has to.

        Args:
            images: the images.
            size: the side in pixels, None for the backbone's own.
            into: an array to fill, `[images 3 side side]`; None for a new one.
        """
        side, split = size or self.backbone.image_size, self._split(size)
        if into is None:
            into = np.empty((len(images), CHANNELS, side, side), self.dtype(size))
        for image, row in zip(images, into, strict=True):
            if split is None:
                row[...] = self.backbone.preprocess(image, size).numpy()
            else:
                # (S, S, 3) -> (3, S, S)
                row[...] = np.asarray(split[0](image)).transpose(2, 0, 1)
        return into

    def finish(
        self, prepared: np.ndarray | Tensor, size: int | None
    ) -> Float[Tensor, "images 3 side side"]:
        """Move prepared images to the device and finish their transform there."""
        on_host = torch.from_numpy(prepared) if isinstance(prepared, np.ndarray) else prepared
        values = on_host.to(self.backbone.device, non_blocking=True)
        split = self._split(size)
        # A copy: what was prepared may lie in memory that is used again.
        return values.clone() if split is None else _normalized(values, split[1])

    @cached_property
    def _split(self) -> Callable[[int | None], tuple[Compose, Normalize] | None]:
        """The two parts of the transform by size, None where it cannot be split."""
        return cache(self._try_to_split)

    def _try_to_split(self, size: int | None) -> tuple[Compose, Normalize] | None:
        transform = self.backbone.make_transform(size or self.backbone.image_size)
        steps = transform.transforms if isinstance(transform, Compose) else []
        if len(steps) < 2 or not isinstance(steps[-1], Normalize):
            return None
        # The step before last converts to floats.
        split = Compose(steps[:-2]), steps[-1]
        noise = np.random.default_rng(0).integers(0, 256, (TRIED_SIDE, TRIED_SIDE, 3), np.uint8)
        return split if _is_exact(transform, split, Image.fromarray(noise)) else None


def _is_exact(transform: Transform, split: tuple[Compose, Normalize], image: Image.Image) -> bool:
    """Say whether the two parts give the floats of the whole transform, bit for bit."""
    resized = split[0](image)
    if not isinstance(resized, Image.Image) or resized.mode != "RGB":
        return False
    # (S, S, 3) -> (1, 3, S, S)
    values = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None]
    return torch.equal(_normalized(values, split[1])[0], transform(image))


def _normalized(values: Tensor, normalize: Normalize) -> Float[Tensor, "images 3 side side"]:
    """Finish the transform as torchvision does, without its look at the values on the device."""
    device = values.device
    # A tensor on the device divides; a number would be turned into a factor of 1/255 on a GPU.
    levels = torch.full((), float(LEVELS), device=device)
    # (3) -> (3, 1, 1)
    mean, std = (
        torch.as_tensor(numbers).to(device, non_blocking=True)[:, None, None]
        for numbers in (normalize.mean, normalize.std)
    )
    return values.float().div_(levels).sub_(mean).div_(std)
