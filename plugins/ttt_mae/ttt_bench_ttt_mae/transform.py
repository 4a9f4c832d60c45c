"""The transform from images to pixels, as in MAE's official code."""

from collections.abc import Callable

from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor
from torchvision.transforms.functional import InterpolationMode

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Side of the centre crop as a share of the resized image's, in the official code: 224 of 256.
CROP = 224 / 256


def to_pixels() -> Callable[[Image.Image], Tensor]:
    """Return the transform that normalizes by ImageNet's statistics."""
    return Compose([ToTensor(), Normalize(MEAN, STD)])


def centre_crop(side: int, crop: float) -> Callable[[Image.Image], Tensor]:
    """Return the transform that resizes the shorter side, crops the centre and normalizes.

    Args:
        side: side of the crop in pixels.
        crop: side of the crop as a share of the resized image's.
    """
    resize = Resize(round(side / crop), interpolation=InterpolationMode.BICUBIC)
    return Compose([resize, CenterCrop(side), to_pixels()])
