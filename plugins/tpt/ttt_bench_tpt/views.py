"""The views of a test image: itself, and random crops of it."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop

from ttt_bench import Backbone, Sample, SampleRNG, Task

CHAINS = 3
DEEPEST = 3
SEVERITY = 1


def make_views(
    task: Task, sample: Sample, rng: SampleRNG, count: int, augmix: bool
) -> Float[Tensor, "views 3 side side"]:
    """View 0 is the plain image through the backbone's transform, the others are random.

    Source: Shu et al. 2022, section 4.1; AugMix by Hendrycks et al. 2020.
    """
    backbone = task.backbone
    crop = Compose([RandomResizedCrop(backbone.image_size), RandomHorizontalFlip()])
    generator = rng.numpy("augmix")
    views = [backbone.preprocess(sample.image)]
    # torchvision draws from the global generator: lend it the sample's numbers, then give it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.torch("views").initial_seed())
        for _ in range(count - 1):
            view = crop(sample.image)
            views.append(mix(view, backbone, generator) if augmix else backbone.preprocess(view))
    return torch.stack(views).to(task.device)


def mix(
    image: Image.Image, backbone: Backbone, rng: np.random.Generator
) -> Float[Tensor, "3 side side"]:
    """AugMix: chains of 1 to 3 operations, mixed with each other, then with the image."""
    weights = rng.dirichlet([1.0] * CHAINS)
    blend = float(rng.beta(1.0, 1.0))
    plain = backbone.preprocess(image)
    mixed = torch.zeros_like(plain)
    for weight in weights:
        changed = image
        for _ in range(rng.integers(1, DEEPEST + 1)):
            operation = OPERATIONS[rng.integers(len(OPERATIONS))]
            changed = operation(changed, rng)
        mixed += float(weight) * backbone.preprocess(changed)
    return blend * plain + (1 - blend) * mixed


def _level(rng: np.random.Generator, most: float | int) -> float:
    """A strength up to a tenth of `most` at severity 1."""
    return rng.uniform(0.1, SEVERITY) * most / 10


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
