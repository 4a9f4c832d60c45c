"""The views of a test image: the image itself, and random crops of it, AugMix ones if asked."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop

from ttt_bench import Backbone, Sample, SampleRNG, Task, seeded

# AugMix's values in TPT's official code.
CHAINS = 3
MAX_DEPTH = 3
SEVERITY = 1


def make_views(
    task: Task, sample: Sample, rng: SampleRNG, count: int, augmix: bool
) -> Float[Tensor, "views 3 side side"]:
    """Return the views of a sample: the image as the backbone transforms it, then random ones.

    Args:
        task: its backbone transforms every view.
        sample: the image.
        rng: the sample's random generators.
        count: how many views, the unaugmented one included.
        augmix: whether the random views are AugMix ones.

    Source: Shu et al. 2022, arXiv 2209.07511, section 4.1.
    """
    backbone = task.backbone
    crop = Compose([RandomResizedCrop(backbone.image_size), RandomHorizontalFlip()])
    generator = rng.numpy("augmix")
    views = [backbone.preprocess(sample.image)]
    # torchvision's transforms draw from the global generator.
    with seeded(rng.torch("views").initial_seed()):
        for _ in range(count - 1):
            view = crop(sample.image)
            views.append(mix(view, backbone, generator) if augmix else backbone.preprocess(view))
    return torch.stack(views).to(task.device)


def mix(
    image: Image.Image, backbone: Backbone, rng: np.random.Generator
) -> Float[Tensor, "3 side side"]:
    """Mix chains of 1 to 3 random operations with each other, then with the image.

    Source: AugMix (Hendrycks et al. 2020, arXiv 1912.02781, section 3).
    """
    weights = rng.dirichlet([1.0] * CHAINS)
    blend = float(rng.beta(1.0, 1.0))
    plain = backbone.preprocess(image)
    mixed = torch.zeros_like(plain)
    for weight in weights:
        augmented = image
        for _ in range(rng.integers(1, MAX_DEPTH + 1)):
            operation = OPERATIONS[rng.integers(len(OPERATIONS))]
            augmented = operation(augmented, rng)
        mixed += float(weight) * backbone.preprocess(augmented)
    return blend * plain + (1 - blend) * mixed


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
