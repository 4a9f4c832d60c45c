"""CIFAR-10's test or held-out training images under CIFAR-10-C's corruptions, kept under build/.

Only tools/ use this: for the validation of the embedded models and for their cards.
"""

from functools import cache
from pathlib import Path

import numpy as np
from cifar10 import Split, read_test, read_train
from cifar_c import CORRUPTIONS, corrupt_all

SPLITS = ("held-out", "test")


@cache
def read_split(name: str, data: Path) -> Split:
    """Return the 5,000 held-out training images, or the 10,000 test images."""
    return read_train(data)[1] if name == "held-out" else read_test(data)


def corrupted(name: str, corruption: str, data: Path, severity: int = 5) -> np.ndarray:
    """Return a split's images under a corruption, uint8 `[N, 32, 32, 3]`; made once.

    Args:
        name: one of `SPLITS`.
        corruption: a name of CIFAR-10-C, or `clean`.
        data: the folder of CIFAR-10's archive; the images are kept beside it.
        severity: 1 to 5.
    """
    split = read_split(name, data)
    if corruption == "clean":
        return split.images
    file = data.parent / "cifar10-c" / f"{name}-{corruption}-{severity}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        images = corrupt_all(split.images, corruption, np.arange(len(split.labels)), severity)
        temporary = file.with_suffix(".part.npy")
        np.save(temporary, images)
        temporary.replace(file)
    return np.load(file)


CONDITIONS = ("clean", *CORRUPTIONS)
