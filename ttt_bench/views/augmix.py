"""AugMixViews: random crops, each mixed with chains of simple operations on it.

Source: AugMix (Hendrycks et al. 2020, arXiv 1912.02781, section 3), as TPT uses it (Shu et al.
2022, arXiv 2209.07511, section 4.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from typing_extensions import override

from ttt_bench.api.sample import SampleRNG
from ttt_bench.api.views import DrawnViews
from ttt_bench.views.crops import CropViews, random_crops

# AugMix's values in TPT's official code.
CHAINS = 3
MAX_DEPTH = 3
SEVERITY = 1


@dataclass(frozen=True)
class AugMixViews(CropViews):
    """The image, and `count - 1` random crops, each mixed with three chains of operations on it."""

    @property
    @override
    def images(self) -> int:
        return 1 + (self.count - 1) * (1 + CHAINS)

    @override
    def draw(self, image: Image.Image, rng: SampleRNG, side: int) -> DrawnViews:
        generator = rng.numpy("augmix")
        images, weights, blends = [image], [], []
        for crop in random_crops(self, image, rng, side):
            weights.append(generator.dirichlet([1.0] * CHAINS))
            blends.append(generator.beta(1.0, 1.0))
            images += [crop, *(_chain(crop, generator) for _ in range(CHAINS))]
        blend = np.array(blends)
        numbers = {"weights": np.array(weights), "blends": blend, "rests": 1 - blend}
        # Float32, as the pixels are; some devices know nothing wider.
        return DrawnViews(images, {k: v.astype(np.float32) for k, v in numbers.items()})

    @override
    def combine(
        self, pixels: Float[Tensor, "images 3 side side"], numbers: Mapping[str, Tensor]
    ) -> Float[Tensor, "views 3 side side"]:
        crops = pixels[1:].unflatten(0, (self.count - 1, 1 + CHAINS))  # (n, 1 + chains, 3, S, S)
        plain, chains = crops[:, 0], crops[:, 1:]
        mixed = torch.zeros_like(plain)
        for number in range(CHAINS):
            weight = numbers["weights"][:, number][:, None, None, None]  # (n, 1, 1, 1)
            mixed += weight * chains[:, number]
        blend = numbers["blends"][:, None, None, None]  # (n, 1, 1, 1)
        rest = numbers["rests"][:, None, None, None]  # (n, 1, 1, 1)
        return torch.cat([pixels[:1], blend * plain + rest * mixed])


def _chain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Apply 1 to 3 random operations, one after another."""
    for _ in range(rng.integers(1, MAX_DEPTH + 1)):
        operation = OPERATIONS[rng.integers(len(OPERATIONS))]
        image = operation(image, rng)
    return image


def _level(rng: np.random.Generator, maximum: float | int) -> float:
    """Draw a strength, at severity 1 up to a tenth of the maximum."""
    return rng.uniform(0.1, SEVERITY) * maximum / 10


def _signed(rng: np.random.Generator, value: float | int) -> float | int:
    return -value if rng.random() > 0.5 else value


def _affine(image: Image.Image, matrix: tuple[float | int, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR
    )


def _autocontrast(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.equalize(image)


def _posterize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.posterize(image, 4 - int(_level(rng, 4)))


def _rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    degrees = _signed(rng, int(_level(rng, 30)))
    return image.rotate(degrees, resample=Image.Resampling.BILINEAR)


def _solarize(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.solarize(image, 256 - int(_level(rng, 256)))


def _shear_x(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _affine(image, (1, _signed(rng, _level(rng, 0.3)), 0, 0, 1, 0))


def _shear_y(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _affine(image, (1, 0, 0, _signed(rng, _level(rng, 0.3)), 1, 0))


def _translate_x(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _affine(image, (1, 0, _signed(rng, int(_level(rng, image.width / 3))), 0, 1, 0))


def _translate_y(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, _signed(rng, int(_level(rng, image.height / 3)))))


OPERATIONS = (
    _autocontrast,
    _equalize,
    _posterize,
    _rotate,
    _solarize,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
)
