"""Small images packed without loss, as the embedded datasets ship them."""

from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ttt_bench.api.errors import UserError, described

SIDE = 32


class ImageSheets:
    """Images of 32 x 32 pixels in a .npz file, each group of them in one lossless WebP picture.

    The file holds `labels` and `indices` of the N images, the names `groups`, the numbers `scales`
    and, under each group's name, the bytes of its picture: 32 pixels wide, the images one below
    another. A group whose scale is above 0 is stored as its difference, modulo 256, from the group
    `clean` times scale / 256: noise takes up a fifth to a tenth less room so, impulse noise a
    fifth.

    Attributes:
        labels: int64 `[N]`.
        indices: int64 `[N]`, each image's index in the split that it was taken from.

    Raises:
        UserError: the file or a picture in it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._images: dict[str, np.ndarray] = {}
        groups = self._array("groups").tolist()
        self._scales = dict(zip(groups, self._array("scales").tolist(), strict=True))
        self.labels = self._array("labels").astype(np.int64)
        self.indices = self._array("indices").astype(np.int64)

    def images(self, group: str) -> UInt8[np.ndarray, "n 32 32 3"]:
        """Return the images of a group, decoded when first asked for."""
        if group not in self._images:
            # Threads that ask at once decode twice and store equal arrays.
            self._images[group] = self._decode(group)
        return self._images[group]

    def _decode(self, group: str) -> np.ndarray:
        sheet = BytesIO(self._array(group).tobytes())
        expected = (SIDE, SIDE * len(self.labels))
        try:
            with Image.open(sheet, formats=["WEBP"]) as picture:
                # Before the decoding, so that a damaged header asks for no memory.
                if picture.size != expected or picture.mode != "RGB":
                    raise ValueError(f"{picture.mode} {picture.size}, RGB {expected} expected")
                pixels = np.asarray(picture)
        except Exception as error:  # A damaged picture can raise anything.
            raise self._unreadable(group, error) from error
        images = pixels.reshape(-1, SIDE, SIDE, 3)  # (n, 32, 32, 3)
        if scale := self._scales[group]:
            images = images + predicted(self.images("clean"), scale)
        return images

    def _array(self, name: str) -> np.ndarray:
        try:
            with np.load(self._path) as file:
                return file[name]
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: Exception) -> UserError:
        return UserError(
            f"{self._path}: {name} cannot be read ({described(error)}); install ttt-bench again, "
            "with a Pillow that reads WebP"
        )


def predicted(clean: UInt8[np.ndarray, "n 32 32 3"], scale: int) -> UInt8[np.ndarray, "n 32 32 3"]:
    """Return what a group is stored as the difference from: clean pixels times scale / 256.

    Args:
        clean: the clean images.
        scale: 1 to 256.
    """
    return (clean.astype(np.uint16) * scale >> 8).astype(np.uint8)
