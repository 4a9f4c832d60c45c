"""From images to pixels, as MAE's releases do it."""

from collections.abc import Callable

from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor
from torchvision.transforms.functional import InterpolationMode

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Side of the centre crop over that of the resized image, as released: 224 of 256 pixels.
CROP = 224 / 256


def to_pixels() -> Callable[[Image.Image], Tensor]:
    """Normalize with ImageNet's statistics."""
    return Compose([ToTensor(), Normalize(MEAN, STD)])


def centre(side: int, crop: float) -> Callable[[Image.Image], Tensor]:
    """Resize the shorter side, cut out the centre, normalize."""
    resize = Resize(round(side / crop), interpolation=InterpolationMode.BICUBIC)
    return Compose([resize, CenterCrop(side), to_pixels()])
