"""The golden `cifar_c`: our corruptions beside the outputs of CIFAR-10-C's authors' functions.

`python tests/golden_check.py FILE.npz` runs it. The file holds clean images `images`, uint8
`[N, 32, 32, 3]`, and `CORRUPTION/SEVERITY` of the same shape, each image made after
`numpy.random.seed(1000 * severity + its index)`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from cifar_c import CORRUPTIONS, Draws, corrupt, missing_library

KIND = "cifar_c"
ARRAYS = frozenset({"images", "fog/5", "jpeg_compression/5"})
# Largest mean absolute difference in grey levels. numpy and Pillow alone make the first line's.
TOLERANCES = {
    **dict.fromkeys(("gaussian_noise", "shot_noise", "fog", "contrast", "pixelate"), 0.0),
    # Their libraries' versions round some pixels otherwise; rounding instead of truncation is 0.5.
    **dict.fromkeys(("zoom_blur", "defocus_blur", "glass_blur", "elastic_transform"), 0.1),
    **dict.fromkeys(("brightness", "jpeg_compression", "frost"), 0.1),
    # Versions of ImageMagick differ by a few grey levels at some pixels.
    **dict.fromkeys(("motion_blur", "snow"), 1.0),
    # Other draws of the same distribution; the next severity is 2.5 grey levels off.
    "impulse_noise": 1.0,
}
REPEATS = 20


def compare(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what the command prints.

    `max_abs_diff` holds the mean absolute grey-level difference of each output. `impulse_noise` is
    compared by how far it moves an image on average, for its draws cannot be repeated.

    Raises:
        ValueError: an array's name or shape is not that of such a file.
    """
    images = arrays["images"]
    names = sorted(set(arrays) - {"images"})
    for name in names:
        corruption, _, severity = name.partition("/")
        if corruption not in CORRUPTIONS or severity not in tuple("12345"):
            raise ValueError(f"{name} is no corruption and severity, such as fog/5")
        if arrays[name].shape != images.shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, the images {images.shape}")
    reasons = {name: missing_library(name) for name in sorted({n.split("/")[0] for n in names})}
    reasons = {name: reason for name, reason in reasons.items() if reason}
    differences = {
        name: difference(images, name, arrays[name])
        for name in names
        if name.split("/")[0] not in reasons
    }
    return {
        "kind": KIND,
        "max_abs_diff": differences,
        "left_out": list(reasons),
        "left_out_reasons": reasons,
    }


def difference(images: np.ndarray, name: str, expected: np.ndarray) -> float:
    """Return the mean absolute grey-level difference of one output from the expected one."""
    corruption, _, severity = name.partition("/")
    strength = int(severity)
    if corruption == "impulse_noise":
        draws = Draws(strength)
        made = [corrupt(image, corruption, strength, draws) for image in [*images] * REPEATS]
        computed_move = distance(np.stack(made), np.concatenate([images] * REPEATS))
        return abs(computed_move - distance(expected, images))
    made = [
        corrupt(image, corruption, strength, 1000 * strength + index)
        for index, image in enumerate(images)
    ]
    return distance(np.stack(made), expected)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean absolute difference of two arrays of bytes."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())
