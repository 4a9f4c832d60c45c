"""CIFAR-10-C's 15 corruptions at its authors' own strengths (Hendrycks and Dietterich 2019).

The strengths and the order of the draws are those of the functions that made the published files
(github.com/hendrycks/robustness, Apache-2.0): after the same seed the results are equal up to the
versions of OpenCV, scikit-image and ImageMagick. `impulse_noise` alone is equal in distribution
only: the authors' drew from a generator that cannot be seeded alike.

`motion_blur` and `snow` need ImageMagick and its binding Wand:

    apt-get install libmagickwand-6.q16-6 && pip install -c constraints.txt '.[build]'
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from io import BytesIO
from typing import Any

import lazy_loader
import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates, zoom

# Imported when first used: a corruption that needs neither can be made without them.
cv2 = lazy_loader.load("cv2")
skimage = lazy_loader.load("skimage")

SIDE = 32
# Seeds of `corrupt_all` for two corruptions are this far apart.
SEEDS_PER_CORRUPTION = 100_000
Draws = np.random.RandomState


def corrupt(image: np.ndarray, corruption: str, severity: int, draws: Draws | int) -> np.ndarray:
    """Return one image under one corruption, depending on the arguments alone.

    Args:
        image: uint8 `[32, 32, 3]`, as the result.
        corruption: one of `CORRUPTIONS`.
        severity: 1 to 5.
        draws: numpy's legacy generator, or a seed for it.
    """
    if image.shape != (SIDE, SIDE, 3) or image.dtype != np.uint8:
        raise ValueError(f"an image is uint8 [32, 32, 3], not {image.dtype} {list(image.shape)}")
    draws = draws if isinstance(draws, Draws) else Draws(draws)
    row = CORRUPTIONS[corruption]
    return row.function(image, row.strengths[severity - 1], draws)


def corrupt_all(
    images: np.ndarray, corruption: str, indices: np.ndarray, severity: int = 5
) -> np.ndarray:
    """Return every image under one corruption, seeded by the image's index in its split.

    The global generators are neither read nor moved, so that any number of processes may do it.

    Args:
        images: uint8 `[N, 32, 32, 3]`, as the result.
        corruption: one of `CORRUPTIONS`.
        indices: `[N]`, each image's index in CIFAR-10's test or training images.
        severity: 1 to 5.
    """
    number = 5 * list(CORRUPTIONS).index(corruption) + severity
    return np.stack(
        [
            corrupt(image, corruption, severity, SEEDS_PER_CORRUPTION * number + int(index))
            for image, index in zip(images, indices, strict=True)
        ]
    )


def missing_library(corruption: str) -> str | None:
    """Return which library a corruption lacks on this machine, None where it has them all."""
    for module in CORRUPTIONS[corruption].modules:
        try:
            import_module(module)
        except ImportError as error:
            return f"{module} cannot be imported ({str(error).strip().splitlines()[0]})"
    return None


def as_bytes(values: np.ndarray) -> np.ndarray:
    """Return values in [0, 1] as bytes, cut off as CIFAR-10-C's are and not rounded."""
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(image: np.ndarray, scale: float, draws: Draws) -> np.ndarray:
    return as_bytes(image / 255.0 + draws.normal(size=image.shape, scale=scale))


def shot_noise(image: np.ndarray, photons: int, draws: Draws) -> np.ndarray:
    return as_bytes(draws.poisson(image / 255.0 * photons) / photons)


def impulse_noise(image: np.ndarray, share: float, draws: Draws) -> np.ndarray:
    flipped = draws.random_sample(image.shape) < share
    salt = draws.random_sample(image.shape) < 0.5
    return np.where(flipped, np.where(salt, 255, 0), image).astype(np.uint8)


def defocus_blur(image: np.ndarray, strength: tuple[float, float], draws: Draws) -> np.ndarray:
    radius, alias_blur = strength
    offsets = np.arange(-8, 9)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float32)
    kernel = cv2.GaussianBlur(disk / disk.sum(), ksize=(3, 3), sigmaX=alias_blur)
    return as_bytes(cv2.filter2D(image / 255.0, -1, kernel))


def glass_blur(image: np.ndarray, strength: tuple[float, int, int], draws: Draws) -> np.ndarray:
    sigma, distance, iterations = strength
    pixels = as_bytes(gaussian(image / 255.0, sigma))
    for _ in range(iterations):
        for row in range(SIDE - distance, distance, -1):
            for column in range(SIDE - distance, distance, -1):
                right, down = draws.randint(-distance, distance, size=2)
                # The authors exchanged two views: the second write reads what the first has
                # written, so that the other pixel keeps its colour.
                pixels[row, column] = pixels[row + down, column + right]
    return as_bytes(gaussian(pixels / 255.0, sigma))


def gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    return skimage.filters.gaussian(values, sigma=sigma, channel_axis=-1)


def motion_blur(image: np.ndarray, strength: tuple[float, float], draws: Draws) -> np.ndarray:
    return magick_motion_blur(image, *strength, angle=draws.uniform(-45, 45))


def magick_motion_blur(pixels: np.ndarray, radius: float, sigma: float, angle: float) -> np.ndarray:
    """Blur bytes `[32, 32]` or `[32, 32, 3]` along an angle in degrees with ImageMagick."""
    wand: Any = import_module("wand.image")
    encoded = BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    with wand.Image(blob=encoded.getvalue()) as blurred:
        blurred.motion_blur(radius, sigma, angle)
        decoded = Image.open(BytesIO(blurred.make_blob("PNG")))
        return np.asarray(decoded.convert("L" if pixels.ndim == 2 else "RGB"))


def zoom_blur(image: np.ndarray, last: float, draws: Draws) -> np.ndarray:
    values = (image / 255.0).astype(np.float32)
    factors = np.arange(1, last, 0.01)
    total = np.zeros_like(values)
    for factor in factors:
        total += clipped_zoom(values, factor)
    return as_bytes((values + total) / (len(factors) + 1))


def clipped_zoom(values: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge the middle of `[32, 32, C]` to 32 x 32 again."""
    part = math.ceil(SIDE / factor)
    start = (SIDE - part) // 2
    middle = values[start : start + part, start : start + part]
    enlarged = zoom(middle, (factor, factor, 1), order=1)
    trim = (len(enlarged) - SIDE) // 2
    return enlarged[trim : trim + SIDE, trim : trim + SIDE]


def snow(image: np.ndarray, strength: tuple[float, ...], draws: Draws) -> np.ndarray:
    mean, deviation, factor, threshold, radius, sigma, keep = strength
    values = image.astype(np.float32) / 255.0
    flakes = draws.normal(size=(SIDE, SIDE), loc=mean, scale=deviation)
    flakes = clipped_zoom(flakes[..., None], factor)[..., 0]  # (32, 32)
    flakes[flakes < threshold] = 0
    angle = draws.uniform(-135, -45)
    layer = magick_motion_blur(as_bytes(flakes), radius, sigma, angle)[..., None] / 255.0
    grey = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None]  # (32, 32, 1)
    whitened = keep * values + (1 - keep) * np.maximum(values, grey * 1.5 + 0.5)
    return as_bytes(whitened + layer + np.rot90(layer, k=2))


def frost(image: np.ndarray, strength: tuple[float, float], draws: Draws) -> np.ndarray:
    picture = frost_pictures()[draws.randint(5)]
    top, left = (draws.randint(0, size - SIDE) for size in picture.shape[:2])
    part = picture[top : top + SIDE, left : left + SIDE]
    keep, weight = strength
    return np.clip(keep * image + weight * part, 0, 255).astype(np.uint8)


@cache
def frost_pictures() -> list[np.ndarray]:
    """Return the five frost pictures, scaled to a fifth, as RGB."""
    folder = resources.files("imagecorruptions") / "frost"
    names = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
    pictures = []
    for name in names:
        encoded = np.frombuffer((folder / name).read_bytes(), np.uint8)
        picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert picture is not None
        pictures.append(cv2.resize(picture, (0, 0), fx=0.2, fy=0.2)[..., ::-1])
    return pictures


def fog(image: np.ndarray, strength: tuple[float, float], draws: Draws) -> np.ndarray:
    amount, decay = strength
    values = image / 255.0
    largest = values.max()
    foggy = values + amount * plasma_fractal(decay, draws)[..., None]
    return as_bytes(foggy * largest / (largest + amount))


def plasma_fractal(decay: float, draws: Draws) -> np.ndarray:
    """Return a height map `[32, 32]` in [0, 1] by the diamond-square algorithm, on a torus."""
    heights = np.zeros((SIDE, SIDE))
    step, wibble = SIDE, 100.0

    def mean_and_wibble(sums: np.ndarray) -> np.ndarray:
        return sums / 4 + wibble * draws.uniform(-wibble, wibble, sums.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        rows = corners + np.roll(corners, -1, axis=0)
        heights[half::step, half::step] = mean_and_wibble(rows + np.roll(rows, -1, axis=1))
        middles = heights[half::step, half::step]
        beside = middles + np.roll(middles, 1, axis=0) + corners + np.roll(corners, -1, axis=1)
        heights[::step, half::step] = mean_and_wibble(beside)
        below = middles + np.roll(middles, 1, axis=1) + corners + np.roll(corners, -1, axis=0)
        heights[half::step, ::step] = mean_and_wibble(below)
        step, wibble = half, wibble / decay
    heights -= heights.min()
    return heights / heights.max()


def brightness(image: np.ndarray, amount: float, draws: Draws) -> np.ndarray:
    hsv = skimage.color.rgb2hsv(image / 255.0)
    hsv[..., 2] = np.clip(hsv[..., 2] + amount, 0, 1)
    return as_bytes(skimage.color.hsv2rgb(hsv))


def contrast(image: np.ndarray, factor: float, draws: Draws) -> np.ndarray:
    values = image / 255.0
    means = values.mean(axis=(0, 1), keepdims=True)
    return as_bytes((values - means) * factor + means)


def elastic_transform(
    image: np.ndarray, strength: tuple[float, float, float], draws: Draws
) -> np.ndarray:
    alpha, sigma, affine = (SIDE * part for part in strength)
    values = image.astype(np.float32) / 255.0
    centre, third = SIDE // 2, SIDE // 3
    corners = ((third, third), (third, -third), (-third, -third))
    points = (centre + np.array(corners)).astype(np.float32)
    moved = points + draws.uniform(-affine, affine, size=points.shape).astype(np.float32)
    matrix = cv2.getAffineTransform(points, moved)
    values = cv2.warpAffine(values, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)
    across, down = (
        alpha
        * skimage.filters.gaussian(
            draws.uniform(-1, 1, size=(SIDE, SIDE)), sigma, mode="reflect", truncate=3
        )
        for _ in range(2)
    )
    rows, columns, channels = np.meshgrid(*map(np.arange, values.shape), indexing="ij")
    shifts = (part.astype(np.float32)[..., None] for part in (down, across))
    places = [grid + shift for grid, shift in zip((rows, columns), shifts, strict=True)]
    return as_bytes(map_coordinates(values, [*places, channels], order=1, mode="reflect"))


def pixelate(image: np.ndarray, share: float, draws: Draws) -> np.ndarray:
    side = int(SIDE * share)
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX))


def jpeg_compression(image: np.ndarray, quality: int, draws: Draws) -> np.ndarray:
    encoded = BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality)
    return np.asarray(Image.open(encoded))


@dataclass(frozen=True)
class Corruption:
    """One corruption.

    Attributes:
        function: the result for an image, a strength and a generator.
        strengths: its strengths for severities 1 to 5.
        modules: the modules that it needs beside numpy, scipy and Pillow.
    """

    function: Callable[[np.ndarray, Any, Draws], np.ndarray]
    strengths: tuple[Any, ...]
    modules: tuple[str, ...] = ()


# In the order of ImageNet-C's authors.
CORRUPTIONS = {
    "gaussian_noise": Corruption(gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption(shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Corruption(
        defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)), ("cv2",)
    ),
    "glass_blur": Corruption(
        glass_blur,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ("skimage",),
    ),
    "motion_blur": Corruption(
        motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), ("wand.image",)
    ),
    "zoom_blur": Corruption(zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": Corruption(
        snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        ("wand.image", "cv2"),
    ),
    "frost": Corruption(
        frost,
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ("cv2", "imagecorruptions"),
    ),
    "fog": Corruption(fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": Corruption(brightness, (0.05, 0.1, 0.15, 0.2, 0.3), ("skimage",)),
    "contrast": Corruption(contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": Corruption(
        elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ("cv2", "skimage"),
    ),
    "pixelate": Corruption(pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Corruption(jpeg_compression, (80, 65, 58, 50, 40)),
}
