"""Datasets that live in a folder: where they are looked for, and what is known of them."""

import os
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import platformdirs
from PIL import Image
from typing_extensions import override

from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file with a stable public address.

    Attributes:
        hash: as `md5:HEX` or `sha256:HEX`, as its publisher states it; "" where none is stated.
        size: in bytes, about: for the check of the free disk and for the user to know.
        folder: where in the dataset's folder it is unpacked, "" for the folder itself. A named
            folder that exists already counts as this archive unpacked, so no two share one.
        inner: the folder within the archive that is taken, "" for all there is.
    """

    url: str
    hash: str
    size: int
    folder: str = ""
    inner: str = ""


@dataclass(frozen=True, kw_only=True)
class HowToGet:
    """How a dataset is had.

    Attributes:
        archives: what `data download` fetches and unpacks.
        steps: what a person has to do, in words, for what cannot be fetched so.
        gigabytes: on disk, about.
    """

    archives: tuple[Archive, ...] = ()
    steps: tuple[str, ...] = ()
    gigabytes: float


class MissingDataError(UserError):
    """A dataset of which nothing was found, as against one that does not fit."""


class OnDisk(Dataset):
    """A dataset in a folder of its own under a data root.

    Attributes:
        folders: the names its folder goes by, as in TPT's and CoOp's instructions and the
            original's own; `data download` makes the first.
        acquisition: how it is had.
        root: its folder.
    """

    folders: ClassVar[tuple[str, ...]]
    acquisition: ClassVar[HowToGet]
    root: Path

    @abstractmethod
    def path(self, index: int) -> Path:
        """The file of entry `index`."""

    @override
    def open(self, index: int) -> Image.Image:
        return open_image(self.path(index))

    def expected_counts(self) -> Mapping[str, int]:
        """Return the known number of test images by class name or group, empty if unknown."""
        return {}

    def found_counts(self) -> Mapping[str, int]:
        """The same as found, under the same names."""
        return {}

    def problems(self) -> Iterator[str]:
        """What `data verify` finds beyond what the constructor refuses, the worst first.

        Counts against the known ones, then every so many an image decoded in full.
        """
        found = self.found_counts()
        for name, count in self.expected_counts().items():
            if found.get(name, 0) != count:
                yield f"{self.root}: {found.get(name, 0)} images of {name}, {count} are known"
        for index in self.sampled():
            try:
                self.open(index)
            except UserError as error:
                yield str(error)

    def sampled(self) -> range:
        """Indices of the images that `problems` decodes, spread evenly over the entries."""
        return range(0, len(self.entries), max(1, len(self.entries) // SAMPLED))


# Images that `data verify` decodes, about.
SAMPLED = 500
# Pixels that an image may have, as many as Pillow lets pass without a warning: 0.27 GB in RGB. A
# file of a few bytes can claim any number.
MOST_PIXELS = 89_478_485
# What photographs come in. Pillow knows many more formats and goes by what a file holds, not by its
# name; for one of them, EPS, it runs a program that comes with the file.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# From Pillow's warning on it refuses by itself, while it reads the header.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def data_roots(data_root: Path | None) -> list[Path]:
    """Folders that datasets are looked for in: the given one, TTT_BENCH_DATA, the user's own."""
    given = [data_root] if data_root else []
    variable = os.environ.get("TTT_BENCH_DATA")
    named = [Path(variable)] if variable else []
    return list(dict.fromkeys([*given, *named, platformdirs.user_data_path("ttt-bench")]))


def find_folder(name: str, folders: tuple[str, ...], data_root: Path | None) -> Path:
    """The first folder of one of these names in the data roots.

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


def open_image(path: Path) -> Image.Image:
    """Decode a file to RGB.

    Raises:
        UserError: it is none, claims more than `MOST_PIXELS`, which is seen before any is decoded,
            or cannot be read; the message names it.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file; check the path, or whether the dataset is complete"
        )
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            return image.convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"{path}: refused, an image of more than {MOST_PIXELS} pixels ({error}); scale it down "
            "or remove it"
        ) from error
    # A damaged or hostile file can fail in any way there is.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable image ({reason}); replace or remove it") from error
