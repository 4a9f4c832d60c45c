"""ImageNet's validation images and the sets that share its classes.

What a folder's images show is decided by its WordNet id (by its number in ImageNet-V2), never by
its place in a listing. Class names and templates are those that CLIP's authors published, from
open_clip; ids and subsets are from timm. Two names stand for two classes each, "missile" and
"sunglasses", as they do in the papers: labels are indices, so nothing confuses them but the text.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from typing_extensions import override

from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import Entry, is_text
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import Archive, HowToGet, OnDisk, find_folder
from ttt_bench.datasets.image_folder import SUFFIXES

TEMPLATES = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def _timm_list(name: str) -> list[str]:
    return files("timm").joinpath("data", "_info", name).read_text("utf-8").split()


@cache
def synsets() -> tuple[str, ...]:
    """The WordNet ids of ImageNet-1k's classes, as `n01440764`, in the order of its labels."""
    return tuple(_timm_list("imagenet_synsets.txt"))


class ImageNetFolders(OnDisk):
    """A set of ImageNet's classes with a folder for each.

    Attributes:
        places: where in the set's folder the class folders may be, the usual one first.
        total: known number of images.
        per_class: known number of images of each class, None where it differs.
        subset: timm's list of the classes, "" for all 1000.
        remedy: what to do about a folder that is not complete.
        class_folders: label of each class folder's name.
        images: the folder that holds the class folders.

    Raises:
        UserError: the folder is missing, incomplete, or holds a folder that is no class.
    """

    places: ClassVar[tuple[str, ...]]
    total: ClassVar[int]
    per_class: ClassVar[int | None] = None
    subset: ClassVar[str] = ""
    remedy: ClassVar[str] = "unpack it again"
    class_folders: Mapping[str, int]
    images: Path

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self._read(find_folder(self.name, self.folders, data_root))
        check_complete(
            self.name,
            self.images,
            self.entries,
            self.class_folders,
            total=self.total,
            per_class=self.per_class,
            remedy=self.remedy,
        )

    def _read(self, root: Path) -> None:
        self.root = root
        indices = tuple(map(int, _timm_list(self.subset)) if self.subset else range(1000))
        names = tuple(IMAGENET_CLASSNAMES[index] for index in indices)
        self.classes = ClassSet(names, templates=TEMPLATES, imagenet_indices=indices)
        self.class_folders = {
            self._folder_name(index): label for label, index in enumerate(indices)
        }
        self.images = find_place(self.name, root, self.places, self.class_folders)
        self.entries = read_entries(self.name, self.images, self.class_folders)

    def _folder_name(self, index: int) -> str:
        return synsets()[index]

    @override
    def path(self, index: int) -> Path:
        return self.images / self.entries[index].key

    @override
    def card(self) -> dict[str, Any]:
        return {"revision": names_and_sizes(self.images, self.entries), "corruption_source": None}

    @override
    def expected_counts(self) -> Mapping[str, int]:
        return dict.fromkeys(self.class_folders, self.per_class) if self.per_class else {}

    @override
    def found_counts(self) -> Mapping[str, int]:
        return count_folders(self.entries)


class ImageNet(ImageNetFolders):
    """The validation images of ILSVRC2012, or somebody's own selection of ImageNet's images.

    `imagenet` is all 50,000 of them, `imagenet:PATH` any number of images in `PATH/<WordNet id>` or
    `PATH/val/<WordNet id>`, classified among all 1000 classes.
    """

    name = "imagenet"
    folders = ("imagenet", "ImageNet", "ILSVRC2012")
    places = ("val", "images/val", "")
    total = 50_000
    per_class = 50
    remedy = "complete it, or name a selection of ImageNet's images as imagenet:PATH"
    acquisition = HowToGet(
        steps=(
            "register at https://image-net.org and accept its terms of access",
            "download ILSVRC2012_img_val.tar (6,744,924,160 bytes, md5 "
            "29b22e2961454d5413ddabcf34fc5622)",
            "sort its images into imagenet/val/<WordNet id>/, as valprep.sh of "
            "https://github.com/soumith/imagenetloader.torch does",
        ),
        gigabytes=6.7,
    )

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self._selection = bool(argument)
        if self._selection:
            self.name = f"imagenet:{argument}"
            self._read(_given_folder(self.name, argument, data_root))
        else:
            super().__init__(argument, data_root)

    @override
    def card(self) -> dict[str, Any]:
        card = super().card()
        if self._selection:
            card["revision"] = f"selection {card['revision']}"
        return card

    @override
    def expected_counts(self) -> Mapping[str, int]:
        return {} if self._selection else super().expected_counts()


def _given_folder(name: str, argument: str, data_root: Path | None) -> Path:
    for folder in (Path(argument), *([data_root / argument] if data_root else [])):
        if folder.is_dir() and is_text(argument):
            return folder
    raise UserError(f"{name}: there is no folder {argument}; give the path of one, in UTF-8")


class ImageNetA(ImageNetFolders):
    """ImageNet-A: 7,500 photographs of 200 classes that ResNet-50 gets wrong."""

    name = "imagenet-a"
    folders = ("imagenet-a", "ImageNet-A", "imagenet-adversarial")
    places = ("", "imagenet-a")
    total = 7_500
    acquisition = HowToGet(
        archives=(
            Archive(
                url="https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
                hash="sha256:3bb5632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
                size=687_552_512,
                folder="imagenet-a",
                inner="imagenet-a",
            ),
        ),
        gigabytes=0.7,
    )
    subset = "imagenet_a_indices.txt"


class ImageNetR(ImageNetFolders):
    """ImageNet-R: 30,000 renditions (art, toys, tattoos, ...) of 200 classes."""

    name = "imagenet-r"
    folders = ("imagenet-r", "ImageNet-R", "imagenet-rendition")
    places = ("", "imagenet-r")
    total = 30_000
    acquisition = HowToGet(
        archives=(
            Archive(
                url="https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
                hash="sha256:18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
                size=2_191_079_936,
                folder="imagenet-r",
                inner="imagenet-r",
            ),
        ),
        gigabytes=2.2,
    )
    subset = "imagenet_r_indices.txt"


class ImageNetV2(ImageNetFolders):
    """ImageNet-V2, matched frequency: 10 new photographs of each class.

    Its folders are called 0 to 999, after the labels; in a listing 10 comes before 2.
    """

    name = "imagenet-v2"
    folders = (
        "imagenet-v2",
        "imagenetv2",
        "ImageNetV2",
        "imagenetv2-matched-frequency-format-val",
    )
    places = ("", "imagenetv2-matched-frequency-format-val")
    total = 10_000
    per_class = 10
    acquisition = HowToGet(
        archives=(
            Archive(
                url="https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/"
                "imagenetv2-matched-frequency.tar.gz",
                hash="sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
                size=1_264_079_360,
                folder="imagenetv2-matched-frequency-format-val",
                inner="imagenetv2-matched-frequency-format-val",
            ),
        ),
        gigabytes=1.3,
    )

    @override
    def _folder_name(self, index: int) -> str:
        return str(index)


class ImageNetSketch(ImageNetFolders):
    """ImageNet-Sketch: 50,889 black and white sketches, about 50 of each class."""

    name = "imagenet-sketch"
    folders = ("imagenet-sketch", "ImageNet-Sketch")
    places = ("", "images", "sketch")
    total = 50_889
    acquisition = HowToGet(
        steps=(
            "download ImageNet-Sketch.zip (7.8 GB) from the address that "
            "https://github.com/HaohanWang/ImageNet-Sketch gives",
            "unpack it, so that imagenet-sketch/sketch/<WordNet id>/ holds the images",
        ),
        gigabytes=8.4,
    )


def find_place(name: str, root: Path, places: Iterable[str], labels: Mapping[str, int]) -> Path:
    """The first of the places in `root` that holds a class folder.

    Raises:
        UserError: none does; the message says what was found instead.
    """
    found = [root / place for place in places if (root / place).is_dir()]
    for place in found:
        if any((place / folder).is_dir() for folder in labels):
            return place
    example = next(iter(labels))
    for place in found:
        flat = min(filter(_is_image, os.listdir(place)), default=None)
        if flat:
            raise UserError(
                f"{name}: {place / flat} lies in no class folder; sort the images into folders "
                f"named as {example}"
            )
    strange = sorted(folder.name for folder in os.scandir(root) if folder.is_dir())[:3]
    raise UserError(
        f"{name}: no class folder as {example} in {' or '.join(map(str, found))}, "
        f"found {', '.join(strange) or 'no folder'}; put each class's images in a folder of its own"
    )


def read_entries(name: str, place: Path, labels: Mapping[str, int]) -> list[Entry]:
    """Every image in the class folders of `place`, by label and then by file name.

    Keys are `<class folder>/<file>`, so they do not depend on where the class folders are.

    Raises:
        UserError: a folder is no class, or a class folder has no image.
    """
    found = [item.name for item in os.scandir(place) if item.is_dir() and item.name[0] != "."]
    if strange := sorted(folder for folder in found if folder not in labels):
        raise UserError(
            f"{name}: {place / strange[0]} is none of its {len(labels)} class folders (as "
            f"{next(iter(labels))}); remove it"
        )
    entries = []
    for folder in sorted(found, key=labels.__getitem__):
        images = sorted(item.name for item in os.scandir(place / folder) if _is_image(item.name))
        if not images:
            raise UserError(f"{name}: no image in {place / folder}; fill the folder or remove it")
        entries += [Entry(f"{folder}/{image}", None, labels[folder]) for image in images]
    return entries


def check_complete(
    name: str,
    place: Path,
    entries: Iterable[Entry],
    labels: Mapping[str, int],
    *,
    total: int,
    per_class: int | None,
    remedy: str,
) -> None:
    """Compare what was found in `place` with the known numbers of classes and images.

    Raises:
        UserError: they differ; the message names the first class that is short.
    """
    found = count_folders(entries)
    if missing := [folder for folder in labels if folder not in found]:
        raise UserError(
            f"{name}: {len(found)} class folders in {place}, {len(labels)} expected "
            f"({missing[0]} is missing); {remedy}"
        )
    if found.total() != total:
        wrong = [folder for folder in found if per_class not in (None, found[folder])]
        first = f" ({wrong[0]} has {found[wrong[0]]}, not {per_class})" if wrong else ""
        raise UserError(
            f"{name}: {found.total()} images in {place}, {total} expected{first}; {remedy}"
        )


def count_folders(entries: Iterable[Entry]) -> Counter[str]:
    """Number of images by class folder."""
    return Counter(entry.key.partition("/")[0] for entry in entries)


def names_and_sizes(place: Path, entries: Iterable[Entry]) -> str:
    """A digest of file names and sizes, to see that images changed without reading them."""
    digest = hashlib.sha256()
    for entry in entries:
        line = f"{entry.key}\0{os.stat(place / entry.key).st_size}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _is_image(name: str) -> bool:
    return name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES
