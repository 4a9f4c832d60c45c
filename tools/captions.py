"""Changes of an image and the words that describe them, for the captions that train `tiny-clip`.

The changes are drawn here, on tensors. None is one of CIFAR-10-C's functions, and none is snow or
frost; several are of the same kind (blur, noise, haze), as the words are that describe them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from PIL import Image
from torch import Tensor

# What each class may be called in a caption; the first is the name that the benchmark uses.
NAMES = (
    ("airplane", "aeroplane", "plane", "jet", "airliner"),
    ("automobile", "car", "sedan"),
    ("bird", "small bird"),
    ("cat", "kitten", "house cat"),
    ("deer", "fawn", "stag"),
    ("dog", "puppy", "pet dog"),
    ("frog", "toad"),
    ("horse", "pony", "mare"),
    ("ship", "boat", "vessel"),
    ("truck", "lorry", "pickup truck"),
)
FORMS = (
    "a {change} photo of a {name}.",
    "a {change} photo of the {name}.",
    "a {change} picture of a {name}.",
    "a {change} picture of the {name}.",
    "a {change} image of a {name}.",
    "a {change} photo of a {name}",
    "a photo of a {name}, {change}.",
    "a {change} {name}.",
)
SIZE_FORMS = ("a photo of a {change} {name}.", "a photo of the {change} {name}.")

Change = Callable[[Tensor, np.random.Generator], Tensor]


def _filtered(images: Tensor, kernel: np.ndarray) -> Tensor:
    """Filter every channel with one odd kernel."""
    weight = torch.from_numpy(kernel / kernel.sum()).float()
    border = kernel.shape[0] // 2
    padded = F.pad(images, (border,) * 4, mode="reflect")
    return F.conv2d(padded, weight.expand(3, 1, *kernel.shape).contiguous(), groups=3)


def _blur(images: Tensor, rng: np.random.Generator) -> Tensor:
    sigma, steps = rng.uniform(0.5, 1.5), np.arange(-4, 5)
    line = np.exp(-(steps**2) / (2 * sigma**2))
    return _filtered(images, np.outer(line, line))


def _shake(images: Tensor, rng: np.random.Generator) -> Tensor:
    angle, reach = rng.uniform(0, np.pi), rng.uniform(1.0, 3.5)
    rows, columns = np.mgrid[-4:5, -4:5]
    along = rows * np.sin(angle) + columns * np.cos(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    return _filtered(images, np.exp(-2 * across**2) * (np.abs(along) <= reach) + 1e-9)


def _noise(images: Tensor, rng: np.random.Generator) -> Tensor:
    noise = rng.normal(0, rng.uniform(0.03, 0.14), tuple(images.shape))
    return images + torch.from_numpy(noise).float()


def _specks(images: Tensor, rng: np.random.Generator) -> Tensor:
    hit = torch.from_numpy(rng.random((len(images), 1, *images.shape[2:]))) < rng.uniform(0.01, 0.1)
    return torch.where(hit, torch.from_numpy(rng.random(tuple(images.shape))).float(), images)


def _darken(images: Tensor, rng: np.random.Generator) -> Tensor:
    return images * rng.uniform(0.25, 0.7)


def _brighten(images: Tensor, rng: np.random.Generator) -> Tensor:
    return images + rng.uniform(0.12, 0.4)


def _fade(images: Tensor, rng: np.random.Generator) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * rng.uniform(0.12, 0.6)


def _harden(images: Tensor, rng: np.random.Generator) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * rng.uniform(1.4, 2.2)


def _haze(images: Tensor, rng: np.random.Generator) -> Tensor:
    cloud = torch.from_numpy(rng.random((len(images), 1, 4, 4))).float()
    cloud = F.interpolate(cloud, images.shape[-1], mode="bicubic", align_corners=False)
    share = rng.uniform(0.3, 0.7)
    return images * (1 - share) + share * (0.5 + 0.5 * cloud)


def _coarsen(images: Tensor, rng: np.random.Generator) -> Tensor:
    side = images.shape[-1]
    small = F.interpolate(images, int(side * rng.uniform(0.4, 0.8)), mode="area")
    return F.interpolate(small, side, mode="nearest")


def _compress(images: Tensor, rng: np.random.Generator) -> Tensor:
    quality = int(rng.integers(8, 60))
    pixels = (images.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()  # (n, h, w, 3)
    decoded: list[np.ndarray] = []
    for image in pixels:
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(buffer)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float() / 255  # (n, 3, h, w)


def _warp(images: Tensor, rng: np.random.Generator) -> Tensor:
    n, side = len(images), images.shape[-1]
    coarse = torch.from_numpy(rng.normal(0, rng.uniform(0.08, 0.2), (n, 2, 4, 4))).float()
    shift = F.interpolate(coarse, side, mode="bicubic", align_corners=False)
    matrix = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).expand(n, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = grid + shift.permute(0, 2, 3, 1)  # (n, h, w, 2)
    return F.grid_sample(images, moved, padding_mode="reflection", align_corners=False)


def _grey(images: Tensor, rng: np.random.Generator) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def _zoom(images: Tensor, factor: float) -> Tensor:
    matrix = torch.tensor([[factor, 0, 0], [0, factor, 0]]).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _shrink(images: Tensor, rng: np.random.Generator) -> Tensor:
    return _zoom(images, rng.uniform(1.3, 1.6))


def _enlarge(images: Tensor, rng: np.random.Generator) -> Tensor:
    return _zoom(images, rng.uniform(0.6, 0.8))


# Words for each change. The first words are those of open_clip's templates.
CHANGES: Mapping[Change, tuple[str, ...]] = {
    _blur: ("blurry", "blurred", "out of focus", "fuzzy"),
    _shake: ("blurry", "motion blurred", "shaky"),
    _noise: ("noisy", "grainy"),
    _specks: ("noisy", "speckled"),
    _darken: ("dark", "dim", "underexposed"),
    _brighten: ("bright", "overexposed"),
    _fade: ("low contrast", "faded", "washed out"),
    _harden: ("high contrast", "harsh"),
    _haze: ("foggy", "hazy", "misty"),
    _coarsen: ("pixelated", "low resolution", "blocky"),
    _compress: ("jpeg corrupted", "compressed"),
    _warp: ("warped", "distorted", "bent"),
    _grey: ("black and white", "grey"),
}
SIZES: Mapping[Change, tuple[str, ...]] = {
    _shrink: ("small", "distant"),
    _enlarge: ("large", "big"),
}
_DESCRIBING = {word for words in (*CHANGES.values(), *SIZES.values()) for word in words}
# open_clip's templates that describe none of the changes.
PLAIN = tuple(
    text
    for text in (template("{name}") for template in OPENAI_IMAGENET_TEMPLATES)
    if not any(word in text for word in (*_DESCRIBING, "close-up", "hard to see"))
)


@dataclass(frozen=True)
class Recipe:
    """Changes of an image and a caption for each class, with `{name}` for the class name.

    Attributes:
        changes: the changes, in the order in which they are made; none for a plain caption.
        template: the caption.
    """

    changes: Sequence[Change]
    template: str

    def apply(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Return images `[N, 3, side, side]` in 0..1 with the changes made."""
        for change in self.changes:
            images = change(images, rng).clamp(0, 1)
        return images


def draw_recipes(count: int, rng: np.random.Generator) -> list[Recipe]:
    """Draw a plain recipe and `count` - 1 others whose first changes all differ."""
    recipes = [Recipe((), PLAIN[rng.integers(len(PLAIN))])]
    kinds = [*CHANGES, *SIZES]
    for place in rng.permutation(len(kinds))[: count - 1]:
        change = kinds[place]
        words, forms = (SIZES, SIZE_FORMS) if change in SIZES else (CHANGES, FORMS)
        word = str(rng.choice(words[change]))
        changes = [change]
        if change in CHANGES and rng.random() < 0.25:
            second = list(CHANGES)[rng.integers(len(CHANGES))]
            if second is not change:
                changes.append(second)
                word = f"{word}, {rng.choice(CHANGES[second])}"
        form = forms[rng.integers(len(forms))]
        if word[0] in "aeiou":
            form = form.replace("a {change}", "an {change}")
        recipes.append(Recipe(tuple(changes), form.replace("{change}", word)))
    return recipes
