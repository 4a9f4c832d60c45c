"""OnDisk: a dataset in a folder, how the folder is found, and how its images are decoded."""

import hashlib
import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import platformdirs
from PIL import Image
from typing_extensions import override

from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.regular_files import require_regular
from ttt_bench.api.specs import DatasetSpec


class MissingDataError(UserError):
    """A dataset of which nothing is on disk, as opposed to one whose content is wrong."""


class OnDisk(Dataset):
    """A dataset in a folder of its own under a data root.

    Attributes:
        spec: the dataset's facts, among them the names of its folder and how to get it.
        root: the folder.
    """

    spec: ClassVar[DatasetSpec]
    root: Path

    @abstractmethod
    def path(self, index: int) -> Path:
        """Return the file of entry `index`."""

    @override
    def open(self, index: int) -> Image.Image:
        return open_image(self.path(index))

    @override
    def encoded(self, index: int) -> bytes | None:
        # A subclass that opens its images otherwise may decode equal files to other pixels.
        if type(self).open is not OnDisk.open:
            return None
        return read_encoded(self.path(index))

    @override
    def card(self) -> dict[str, Any]:
        return {"revision": self.revision(), "corruption_source": None}

    def revision(self, every: int = 1) -> str:
        """Return the fingerprint of the test images.

        Args:
            every: take one of so many images, for datasets of millions.
        """
        indices = range(0, len(self.entries), every)
        return fingerprint((self.entries[index].key, self.path(index)) for index in indices)

    def expected_counts(self) -> Mapping[str, int]:
        """Return published numbers of test images by class or group, empty where none are known."""
        return {}

    def actual_counts(self) -> Mapping[str, int]:
        """Return the numbers of test images on disk, under the names of `expected_counts`."""
        return {}

    def problems(self) -> Iterator[str]:
        """Yield a message for everything that `data verify` has to report.

        The constructor refuses a folder that is incomplete. Beyond that, counts are compared with
        the published ones and a sample of the images is decoded in full.
        """
        actual = self.actual_counts()
        for name, count in self.expected_counts().items():
            if actual.get(name, 0) != count:
                yield f"{self.root}: {actual.get(name, 0)} images of {name}, {count} are published"
        for index in self.sampled():
            try:
                self.open(index)
            except UserError as error:
                yield str(error)

    def sampled(self) -> range:
        """Return the entries that `problems` decodes, spread evenly."""
        return range(0, len(self.entries), max(1, len(self.entries) // SAMPLED))


# Images that `data verify` decodes, approximately.
SAMPLED = 500
# Pixels that an image may have, as many as Pillow accepts without a warning: 0.27 GB in RGB. A file
# of a few bytes can claim any number.
MOST_PIXELS = 89_478_485
# Bytes that an image file may have: `MOST_PIXELS` uncompressed, with 16 bits and 4 channels.
MOST_BYTES = 8 * MOST_PIXELS
# Formats of photographs. Pillow knows many more and goes by a file's content, not by its name; for
# one of them, EPS, it runs a program that comes with the file.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Formats whose grey levels of 16 bits older releases of Pillow decode as integers of 32 bits.
SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262
# Hexadecimal digits of a fingerprint that stand in a dataset's identity.
FINGERPRINT = 12


def fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    """Return a SHA-256 over names and sizes in bytes: shows a change without reading the files.

    Args:
        files: the name of each file within its dataset, and its path.
    """
    return fingerprint_of_sizes((name, path.stat().st_size) for name, path in files)


def fingerprint_of_sizes(images: Iterable[tuple[str, int]]) -> str:
    """Return the fingerprint of images that lie in no files of their own.

    Args:
        images: the name of each image within its dataset, and its size in bytes.
    """
    digest = hashlib.sha256()
    for name, size in images:
        digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def data_roots(data_root: Path | None) -> list[Path]:
    """Return the folders in which datasets are looked for.

    They are the given one, the environment variable TTT_BENCH_DATA, and the user's data folder.
    """
    given = [data_root] if data_root else []
    variable = os.environ.get("TTT_BENCH_DATA")
    named = [Path(variable)] if variable else []
    return list(dict.fromkeys([*given, *named, platformdirs.user_data_path("ttt-bench")]))


def find_folder(name: str, folders: tuple[str, ...], data_root: Path | None) -> Path:
    """Return the first folder of one of these names in the data roots.

    Args:
        name: the dataset's name, for the message.
        folders: the names of the folder, in the order in which they are looked for.
        data_root: the folder that the user gave to look in, None for none.

    Raises:
        MissingDataError: there is none.
    """
    roots = data_roots(data_root)
    for root in roots:
        for folder in folders:
            if (root / folder).is_dir():
                return root / folder
    raise MissingDataError(
        f"{name}: no folder {' or '.join(folders)} in {', '.join(map(str, roots))}; "
        f"`ttt-bench data status {name}` says how to get it, --data-root where to look"
    )


def read_encoded(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        OSError: it cannot be read.
        UserError: it is missing or no regular file.
    """
    require_regular(path, MOST_BYTES)
    return path.read_bytes()


def open_image(path: Path) -> Image.Image:
    """Decode an image file to RGB, 8 bits per channel.

    Grey levels of 16 bits keep their upper 8 bits, as Pillow does with colours of 16 bits. EXIF
    orientation and transparency are ignored and an animation gives its first frame, as in
    torchvision's default loader.

    Raises:
        UserError: the file is missing or no regular file, is no image, has more than `MOST_PIXELS`
            pixels (which is seen before any is decoded), or pixels without a known range; the
            message names the file.
    """
    require_regular(path, MOST_BYTES)
    return _decode(path, str(path))


def decode_image(encoded: bytes, name: str) -> Image.Image:
    """Decode the bytes of an image file to RGB, as `open_image` does.

    Args:
        encoded: the content of an image file.
        name: where the bytes are from, for messages.

    Raises:
        UserError: they are no image, or one that `open_image` refuses.
    """
    return _decode(BytesIO(encoded), name)


def _decode(file: Path | BytesIO, name: str) -> Image.Image:
    try:
        # A photograph with a damaged EXIF block or an odd palette is decoded all the same.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
                return _to_rgb(image, name)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"{name}: refused, an image of more than {MOST_PIXELS} pixels ({error}); scale it down "
            "or remove it"
        ) from error
    # A damaged or hostile file can fail in any way.
    except Exception as error:
        raise UserError(
            f"{name}: not a readable image ({first_line(error)}); replace or remove it"
        ) from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return an image as RGB; Pillow's own conversion clips everything above 8 bits."""
    sixteen = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in SIXTEEN_BIT_FORMATS
    )
    tags = getattr(image, "tag_v2", {})
    if sixteen and tuple(tags.get(BITS_PER_SAMPLE, (16,))) == (16,):
        levels = (np.asarray(image) >> 8).astype(np.uint8)
        # Pillow inverts a TIFF whose zero is white if it has 8 bits, and not if it has 16.
        inverted = tags.get(PHOTOMETRIC) == 0
        return Image.fromarray(255 - levels if inverted else levels).convert("RGB")
    if image.mode[0] in "IF":
        kind = "floating point" if image.mode == "F" else f"{image.mode} (Pillow's mode)"
        raise UserError(
            f"{name}: its pixels are {kind}, whose range is not known; save it with 8 or 16 bits "
            "per channel"
        )
    return image.convert("RGB")
