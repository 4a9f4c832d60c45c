"""The random augmentation of CoTTA, which RoTTA, ROID, CMF, RMT and SANTA use as well.

Colours, a small rotation, shift and scaling, blur, mirroring and noise, each drawn once for a
batch. Source: CoTTA (Wang et al. 2022, arXiv 2203.13591, appendix), which names its values.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv
from typing_extensions import override

from ttt_bench import Backbone, SampleRNG

Images = Float[Tensor, "batch 3 side side"]
NOISE = 0.005


class Augmentation(nn.Module):
    """The augmentation, for pixels that a backbone's transform has normalized.

    Attributes:
        black: the value of black in each channel.
        white: the value of white in each channel.
    """

    black: Tensor
    white: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        for name in ("black", "white"):
            image = Image.new("RGB", (backbone.image_size, backbone.image_size), name)
            value = backbone.preprocess(image).amax(dim=(1, 2), keepdim=True)  # (3, 1, 1)
            self.register_buffer(name, value.to(backbone.device))

    def drawn_by(self, rng: SampleRNG) -> Callable[[Images], Images]:
        """Return the augmentation with the draws of one sample; each call draws anew."""
        generator = rng.torch("augmentation")
        return lambda pixels: self(pixels, generator)

    @torch.no_grad()
    def changed(self, pixels: Images, change: Callable[[Images], Images]) -> Images:
        """Return pixels after a change of the images, whose values are from 0 to 1."""
        width = self.white - self.black
        images = ((pixels.float() - self.black) / width).clamp(0, 1)
        return change(images) * width + self.black

    @override
    def forward(self, pixels: Images, generator: torch.Generator) -> Images:
        return self.changed(pixels, lambda images: augment(images, generator))


def augment(images: Images, generator: torch.Generator) -> Images:
    """Return an augmented copy of images with values from 0 to 1.

    Args:
        images: the images.
        generator: the CPU generator of all draws.
    """

    def uniform(low: float, high: float) -> float:
        return float(torch.empty(()).uniform_(low, high, generator=generator))

    changes = (
        lambda x: tv.adjust_brightness(x, uniform(0.6, 1.4)),
        lambda x: tv.adjust_contrast(x, uniform(0.7, 1.3)),
        lambda x: tv.adjust_saturation(x, uniform(0.5, 1.5)),
        lambda x: tv.adjust_hue(x, uniform(-0.06, 0.06)),
        lambda x: tv.adjust_gamma(x.clamp(1e-8, 1), uniform(0.7, 1.3)),
    )
    for index in torch.randperm(len(changes), generator=generator).tolist():
        images = changes[index](images)

    side = images.shape[-1]
    padded = nn.functional.pad(images, [side // 2] * 4, mode="replicate")
    reach = padded.shape[-1] / 16
    moved = tv.affine(
        padded,
        angle=uniform(-15.0, 15.0),
        translate=[round(uniform(-reach, reach)), round(uniform(-reach, reach))],
        scale=uniform(0.9, 1.1),
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    sigma = uniform(0.001, 0.5)
    blurred = tv.center_crop(tv.gaussian_blur(moved, [5, 5], [sigma, sigma]), [side, side])
    if uniform(0.0, 1.0) < 0.5:
        blurred = blurred.flip(-1)
    noise = torch.randn(blurred.shape, generator=generator).to(blurred.device)
    return (blurred + NOISE * noise).clamp(0, 1)
