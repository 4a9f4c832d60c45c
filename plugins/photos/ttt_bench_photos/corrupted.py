"""`photos-c`: the photographs under the corruptions of ImageNet-C, made when they are opened."""

import time
import zlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typing_extensions import override

from ttt_bench import (
    CorruptedEntries,
    CorruptionSelection,
    Dataset,
    Store,
    Stored,
    UserError,
    corrupt,
    imagenet_c_crop,
    parse_conditions,
)
from ttt_bench_photos.photographs import Photos

NAME = "photos-c"
SEVERITY = 3
# Pixels per side of an image, as in ImageNet-C.
SIDE = 224
# Other releases of these may round single pixels otherwise.
PACKAGES = (
    "imagecorruptions-imaug",
    "numba",
    "numpy",
    "opencv-python",
    "pillow",
    "scikit-image",
    "scipy",
    "ttt-bench",
)


class PhotosC(Dataset):
    """`photos-c[:[CORRUPTION][@SEVERITY][,...]]`; without a choice all 15 at severity 3.

    As in ImageNet-C the middle 224 x 224 pixels are corrupted. The seed depends on photograph,
    corruption and severity alone.

    Attributes:
        images: the cache of images that are made, without loss; damaged ones are made again.

    Raises:
        UserError: the argument cannot be read, or the package that generates does not import.
    """

    classes = Photos.classes

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = f"{NAME}:{argument}" if argument else NAME
        if ":" in argument:
            raise UserError(f"{self.name}: takes no second colon; write conditions with commas")
        self._conditions = parse_conditions(NAME, argument, severities=(SEVERITY,))
        selection = CorruptionSelection(self._conditions, generated=True, clean="")
        self._source = selection.source
        self._clean = Photos("", None)
        self._corrupted = CorruptedEntries(selection, self._clean.entries)
        self.entries = self._corrupted
        self.images = Store(
            {
                "dataset": NAME,
                "made": "corrupted images, pixels by zlib",
                "revision": self._clean.revision,
                "versions": {package: metadata.version(package) for package in PACKAGES},
            }
        )

    @override
    def open(self, index: int) -> Image.Image:
        name = self.entries[index].key
        kept = self.images.read([name]).get(name)
        if kept is not None:
            pixels = np.frombuffer(zlib.decompress(kept.value), np.uint8)
            return Image.fromarray(pixels.reshape(SIDE, SIDE, 3))
        started = time.perf_counter()
        image = self._make(index)
        packed = zlib.compress(image.tobytes())
        seconds = time.perf_counter() - started
        self.images.write({name: Stored(packed, seconds)})
        return image

    def _make(self, index: int) -> Image.Image:
        corruption, severity, row = self._corrupted.locate(index)
        cropped = np.asarray(imagenet_c_crop(self._clean.open(row)))  # (224, 224, 3)
        return Image.fromarray(corrupt(cropped, corruption, severity, self._clean.entries[row].key))

    @override
    def encoded(self, index: int) -> bytes:
        made = f"{self.entries[index].key}\0{self._source}".encode()
        return self._clean.encoded(self._corrupted.locate(index)[2]) + made

    @property
    @override
    def identity(self) -> str:
        return f"{NAME}:{_written(self._conditions)}"

    @property
    @override
    def namespace(self) -> str:
        # Keys name the condition, so an image draws the same in every selection.
        return NAME

    @override
    def card(self) -> dict[str, Any]:
        return {"revision": self._clean.revision, "corruption_source": self._source}


def _written(conditions: Sequence[tuple[str, int]]) -> str:
    """Return conditions as users type them, the same text for the same conditions."""
    severities = sorted({severity for _, severity in conditions})
    if tuple(conditions) == parse_conditions(NAME, "", severities):
        return ",".join(f"@{severity}" for severity in severities)
    return ",".join(f"{corruption}@{severity}" for corruption, severity in conditions)
