"""Datasets whose test images are a published list: CoOp's split files and their like.

CoOp (Zhou et al. 2022) fixed the splits of ten fine-grained datasets; TPT and its successors report
on the same test lists. Labels and class names come from the lists, never from folders.
"""

import json
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from PIL import Image
from typing_extensions import override

from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import Entry, is_text
from ttt_bench.api.errors import UserError, described
from ttt_bench.api.on_disk import OnDisk, find_folder, open_image
from ttt_bench.api.regular_files import require_regular
from ttt_bench.datasets.facts.fine_grained import INSTRUCTIONS
from ttt_bench.datasets.facts.rows import SplitSpec
from ttt_bench.datasets.image_files import LARGEST_LIST

Row = tuple[str, int]
ALL = "all classes"


@dataclass(frozen=True)
class Split:
    """A published list as read.

    Attributes:
        file: the file it was read from, for messages.
        names: published class name of every label.
        test: path and label of every test image.
        training: path and label of every training image.
    """

    file: Path
    names: Mapping[int, str]
    test: Sequence[Row]
    training: Sequence[Row]


class PublishedSplit(OnDisk):
    """Test images by a published list, in one of the layouts that users of it have."""

    spec: ClassVar[SplitSpec]  # pyright: ignore[reportIncompatibleVariableOverride]
    augmix = True

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = self.spec.name
        self.root = find_folder(self.name, self.spec.folders, data_root)
        split = self.read()
        _require_published_classes(split, self.spec)
        _require_paths(split)
        labels = range(self.spec.counts.classes)
        names = tuple(spaced(split.names[label]) for label in labels)
        self.classes = ClassSet(names, self.spec.prompt, self.spec.templates)
        self.entries = [Entry(path, None, label) for path, label in split.test]
        self.training = [Entry(path, None, label) for path, label in split.training]
        self._images = self._find_images()

    @abstractmethod
    def read(self) -> Split:
        """Read the list.

        Raises:
            UserError: it is missing or not of its form.
        """

    def _find_images(self) -> Path:
        """Return the folder that the paths of the list begin in.

        Raises:
            UserError: a test image is missing; the message names the first and counts them.
        """
        paths = [entry.key for entry in self.entries]
        missing = {
            folder: missing_files(self.root / folder, paths) for folder in self.spec.image_folders
        }
        # The layout that lacks the fewest images; CoOp's where all lack as many.
        folder = min(self.spec.image_folders, key=lambda folder: len(missing[folder]))
        if missing[folder]:
            raise UserError(
                f"{self.root / folder / missing[folder][0]}: missing; of {len(paths)} test images "
                f"{len(missing[folder])} are; `ttt-bench data status {self.name}` says how to get "
                "them"
            )
        return self.root / folder

    @override
    def path(self, index: int) -> Path:
        return self._images / self.entries[index].key

    @override
    def open_training(self, index: int) -> Image.Image:
        return open_image(self._images / self.training[index].key)

    @override
    def expected_counts(self) -> Mapping[str, int]:
        counts = self.spec.counts
        per_class = counts.per_class * (counts.classes if len(counts.per_class) == 1 else 1)
        by_name = dict(zip(self.classes.names, per_class, strict=True)) if per_class else {}
        return {ALL: counts.images, **by_name}

    @override
    def actual_counts(self) -> Mapping[str, int]:
        by_name = Counter(self.classes.names[entry.label] for entry in self.entries)
        return {ALL: len(self.entries), **by_name}


def _require_published_classes(split: Split, spec: SplitSpec) -> None:
    """Refuse a list whose numbers or class names are not the published ones.

    Raises:
        UserError: the numbers of images or classes differ, or two classes share a name.
    """
    file, counts = split.file, spec.counts
    labels, expected = {label for _, label in split.test}, set(range(counts.classes))
    if differing := sorted((labels ^ expected) | (set(split.names) ^ expected)):
        problem = "missing" if differing[0] in expected else "too much"
        name = split.names.get(differing[0], "no name")
        raise UserError(
            f"{file}: test images of {len(labels)} classes, {counts.classes} are published; "
            f"{problem}: label {differing[0]} ({name}); take the published file"
        )
    if len(split.test) != counts.images:
        raise UserError(
            f"{file}: {len(split.test)} test images, {counts.images} are published; take the "
            f"published file"
        )
    if shared := most_repeated(spaced(name) for name in split.names.values()):
        raise UserError(f"{file}: more than one label has the class name {shared!r}")
    for name in split.names.values():
        if not name.strip() or not is_text(name):
            raise UserError(f"{file}: the class name {name!r} is empty or no text")


def _require_paths(split: Split) -> None:
    """Refuse paths that point out of the dataset's folder, or name a test image twice.

    Raises:
        UserError: there is one; the message names it.
    """
    for path, _ in (*split.test, *split.training):
        if leaves_folder(path):
            raise UserError(f"{split.file}: the path {path!r} leaves the dataset's folder")
        if "\0" in path or not is_text(path):
            raise UserError(f"{split.file}: the path {path!r} cannot be a file's")
    if repeated := most_repeated(path for path, _ in split.test):
        raise UserError(f"{split.file}: the test image {repeated} is listed more than once")


class ZhouSplit(PublishedSplit):
    """A dataset with one of CoOp's `split_zhou_*.json` in its folder.

    The file holds `train`, `val` and `test`, each a list of [path, label, class name].
    """

    @override
    def read(self) -> Split:
        file = self.root / self.spec.split_file
        if not file.exists():
            raise UserError(
                f"{self.root}: no {file.name}; take it from the link in {INSTRUCTIONS} and put it "
                "there"
            )
        require_regular(file, LARGEST_LIST)
        try:
            content = json.loads(file.read_text("utf-8"))
            parts = {part: [tuple(row) for row in content[part]] for part in _PARTS}
        except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
            raise UserError(
                f"{file}: not a split file of CoOp's form ({described(error)})"
            ) from error
        names: dict[int, str] = {}
        for part, rows in parts.items():
            for index, row in enumerate(rows):
                match row:
                    case (str(), int(label), str(name)):
                        if names.setdefault(label, name) != name:
                            raise UserError(
                                f"{file}: label {label} is {names[label]!r} and also {name!r}"
                            )
                    case _:
                        raise UserError(
                            f"{file}: entry {index} of {part!r} is {list(row)!r}, a path, a label "
                            f"and a class name are expected"
                        )
        test, training = ([row[:2] for row in parts[part]] for part in ("test", "train"))
        return Split(file, names, test, training)


_PARTS = ("train", "val", "test")


def spaced(name: str) -> str:
    """Return a class name as prompts have it, underscores as spaces."""
    return name.replace("_", " ")


def most_repeated(values: Iterable[str]) -> str | None:
    """Return the most frequent of the values, None where each is there once."""
    value, count = Counter(values).most_common(1)[0]
    return value if count > 1 else None


def leaves_folder(path: str) -> bool:
    """Say whether a path relative to a folder is empty or points out of it."""
    pure = PurePosixPath(path)
    return not path or pure.is_absolute() or ".." in pure.parts or "\\" in path


def missing_files(folder: Path, paths: Iterable[str]) -> list[str]:
    """Return the relative paths that are not in the folder, in their order.

    Folders are listed, files not looked at one by one: on a network disk that is much faster.

    Raises:
        UserError: a folder cannot be listed.
    """
    listed: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        parent, _, name = path.rpartition("/")
        if parent not in listed:
            listed[parent] = _names_in(folder / parent)
        if name not in listed[parent]:
            missing.append(path)
    return missing


def _names_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as files:
            return {file.name for file in files}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
