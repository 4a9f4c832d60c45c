"""ImageNet's validation images and the sets that share its classes.

An image's label follows from its folder's WordNet id (in ImageNet-V2 from its folder's number).
Class names and templates are those that CLIP's authors published, from open_clip; ids and subsets
are from timm. Two names, "missile" and "sunglasses", stand for two classes each, as they do in the
papers: labels are indices, so only the prompts are alike.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from typing_extensions import override

from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import is_text
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import FINGERPRINT, OnDisk, find_folder
from ttt_bench.datasets.class_folders import (
    count_by_folder,
    find_class_folders,
    read_entries,
    require_complete,
)
from ttt_bench.datasets.facts import imagenet as facts
from ttt_bench.datasets.facts.rows import ClassFoldersSpec

TEMPLATES = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
IMAGENET_CLASS_SET = ClassSet(
    tuple(IMAGENET_CLASSNAMES), templates=TEMPLATES, imagenet_indices=tuple(range(1000))
)
ALL = "all classes"


def timm_list(name: str) -> list[str]:
    """Return the words of one of the lists about ImageNet that timm carries."""
    return files("timm").joinpath("data", "_info", name).read_text("utf-8").split()


@cache
def synsets() -> tuple[str, ...]:
    """Return the WordNet ids of ImageNet-1k's classes, as `n01440764`, by label."""
    return tuple(timm_list("imagenet_synsets.txt"))


def class_indices(class_list: str) -> tuple[int, ...]:
    """Return the positions of a set's classes among ImageNet-1k's 1000, in their order.

    Args:
        class_list: name of timm's list of the classes, "" for all 1000.
    """
    return tuple(map(int, timm_list(class_list))) if class_list else tuple(range(1000))


def class_set(indices: Sequence[int]) -> ClassSet:
    """Return the classes at these positions among ImageNet-1k's 1000, under CLIP's names."""
    names = tuple(IMAGENET_CLASSNAMES[index] for index in indices)
    return ClassSet(names, templates=TEMPLATES, imagenet_indices=tuple(indices))


class ImageNetFolders(OnDisk):
    """A set of ImageNet's classes with a folder for each.

    Attributes:
        labels: label of each class folder's name.
        images: the folder that holds the class folders.

    Raises:
        UserError: the folder is missing, incomplete, or holds a folder that is no class.
    """

    spec: ClassVar[ClassFoldersSpec]  # pyright: ignore[reportIncompatibleVariableOverride]
    labels: Mapping[str, int]
    images: Path

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = self.spec.name
        self._read(find_folder(self.name, self.spec.folders, data_root))
        require_complete(
            self.name,
            self.images,
            self.entries,
            self.labels,
            total=self.spec.total,
            per_class=self.spec.per_class,
            remedy=self.spec.remedy,
        )

    def _read(self, root: Path) -> None:
        self.root = root
        indices = class_indices(self.spec.class_list)
        self.classes = class_set(indices)
        self.labels = {self.folder_name(index): label for label, index in enumerate(indices)}
        self.images = find_class_folders(self.name, root, self.spec.image_folders, self.labels)
        self.entries = read_entries(self.name, self.images, self.labels)

    @staticmethod
    def folder_name(index: int) -> str:
        """Return the name of the folder of the class at `index` among ImageNet-1k's 1000."""
        return synsets()[index]

    @override
    def path(self, index: int) -> Path:
        return self.images / self.entries[index].key

    @override
    def expected_counts(self) -> Mapping[str, int]:
        per_class = self.spec.per_class
        by_folder = dict.fromkeys(self.labels, per_class) if per_class else {}
        return {ALL: self.spec.total, **by_folder}

    @override
    def actual_counts(self) -> Mapping[str, int]:
        return {ALL: len(self.entries), **count_by_folder(self.entries)}


class ImageNet(ImageNetFolders):
    """The validation images of ILSVRC2012, or the user's own selection of ImageNet's images.

    `imagenet` is all 50,000 of them, `imagenet:PATH` any number of images in `PATH/<WordNet id>` or
    `PATH/val/<WordNet id>`, classified among all 1000 classes.
    """

    spec = facts.IMAGENET

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self._selected = bool(argument)
        if self._selected:
            self.name = f"imagenet:{argument}"
            self._read(_selection_folder(self.name, argument, data_root))
        else:
            super().__init__(argument, data_root)

    @property
    @override
    def identity(self) -> str:
        return f"{self.namespace}:{self.revision()[:FINGERPRINT]}" if self._selected else self.name

    @property
    @override
    def namespace(self) -> str:
        return self.spec.name

    @override
    def card(self) -> dict[str, Any]:
        prefix = "selection " if self._selected else ""
        return {"revision": f"{prefix}{self.revision()}", "corruption_source": None}

    @override
    def expected_counts(self) -> Mapping[str, int]:
        return {} if self._selected else super().expected_counts()


def _selection_folder(name: str, argument: str, data_root: Path | None) -> Path:
    for folder in (Path(argument), *([data_root / argument] if data_root else [])):
        if folder.is_dir() and is_text(argument):
            return folder
    raise UserError(f"{name}: there is no folder {argument}; give the path of one, in UTF-8")


class ImageNetA(ImageNetFolders):
    """ImageNet-A: 7,500 photographs of 200 classes that ResNet-50 gets wrong."""

    spec = facts.IMAGENET_A


class ImageNetR(ImageNetFolders):
    """ImageNet-R: 30,000 renditions (art, toys, tattoos, ...) of 200 classes."""

    spec = facts.IMAGENET_R


class ImageNetV2(ImageNetFolders):
    """ImageNet-V2, matched frequency: 10 new photographs of each class.

    Its folders are called 0 to 999, after the labels; in a listing 10 comes before 2.
    """

    spec = facts.IMAGENET_V2

    @staticmethod
    @override
    def folder_name(index: int) -> str:
        return str(index)


class ImageNetSketch(ImageNetFolders):
    """ImageNet-Sketch: 50,889 black and white sketches, about 50 of each class."""

    spec = facts.IMAGENET_SKETCH
