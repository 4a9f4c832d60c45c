"""Datasets whose test images are a published list: CoOp's split files and their like.

CoOp (Zhou et al. 2022) fixed the splits of ten fine-grained datasets; TPT and its successors report
on the same test lists. Labels and class names come from those lists, never from folders.
"""

import hashlib
import json
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from PIL import Image
from typing_extensions import override

from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import Entry, is_text
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import OnDisk, find_folder, open_image

# Where CoOp's authors say how each dataset is laid out, with the addresses of the split files.
INSTRUCTIONS = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"

Row = tuple[str, int]


@dataclass(frozen=True)
class Split:
    """A published list as read.

    Attributes:
        file: what it was read from, for messages.
        names: class name of every label in it, as published.
        test: path and label of every test image.
        training: the same of the training images.
    """

    file: Path
    names: Mapping[int, str]
    test: Sequence[Row]
    training: Sequence[Row]


@dataclass(frozen=True)
class ExpectedCounts:
    """What a published test list is known to hold.

    Attributes:
        images: in the test list.
        classes: in the test list.
        per_class: test images of each class by label, one number where all have it, empty where it
            is not known.
    """

    images: int
    classes: int
    per_class: tuple[int, ...] = ()


class PublishedSplit(OnDisk):
    """Test images by a published list, in one of the layouts that users of it have.

    Attributes:
        known: the numbers that the list has to show.
        prompt: the single template.
        templates: the templates of the prompt ensemble.
        image_folders: where the paths of the list begin, in the order tried: CoOp's layout, then
            TPT's.
    """

    known: ClassVar[ExpectedCounts]
    prompt: ClassVar[str]
    templates: ClassVar[tuple[str, ...]]
    image_folders: ClassVar[tuple[str, ...]]
    augmix = True

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.root = find_folder(self.name, self.folders, data_root)
        split = self.read()
        self._check(split)
        names = tuple(spaced(split.names[label]) for label in range(self.known.classes))
        self.classes = ClassSet(names, self.prompt, self.templates)
        self.entries = [Entry(path, None, label) for path, label in split.test]
        self.training = [Entry(path, None, label) for path, label in split.training]
        self._images = self._find_images()

    @abstractmethod
    def read(self) -> Split:
        """Read the list.

        Raises:
            UserError: it is missing or not of its form.
        """

    def _check(self, split: Split) -> None:
        """Refuse a list that is not the published one, or that points out of the folder."""
        file, known = split.file, self.known
        labels, wanted = {label for _, label in split.test}, set(range(known.classes))
        if strange := sorted((labels ^ wanted) | (set(split.names) ^ wanted)):
            what = "missing" if strange[0] in wanted else "too much"
            name = split.names.get(strange[0], "no name")
            raise UserError(
                f"{file}: test images of {len(labels)} classes, {known.classes} are known; {what}: "
                f"label {strange[0]} ({name}); take the published file"
            )
        if len(split.test) != known.images:
            raise UserError(
                f"{file}: {len(split.test)} test images, {known.images} are known; take the "
                f"published file"
            )
        for path, _ in (*split.test, *split.training):
            if leaves_folder(path):
                raise UserError(f"{file}: the path {path!r} leaves the dataset's folder")
            if "\0" in path or not is_text(path):
                raise UserError(f"{file}: the path {path!r} cannot be a file's")
        if twice := _repeated(path for path, _ in split.test):
            raise UserError(f"{file}: the test image {twice} is listed more than once")
        if twice := _repeated(spaced(name) for name in split.names.values()):
            raise UserError(f"{file}: more than one label has the class name {twice!r}")
        for name in split.names.values():
            if not name.strip() or not is_text(name):
                raise UserError(f"{file}: the class name {name!r} is empty or no text")

    def _find_images(self) -> Path:
        """The folder that the paths begin in.

        Raises:
            UserError: a test image is missing; the message names the first and says how many are.
        """
        paths = [entry.key for entry in self.entries]
        lacking = {folder: missing(self.root / folder, paths) for folder in self.image_folders}
        # The layout is the one that has the images; where none has any, CoOp's is the one to name.
        folder = min(self.image_folders, key=lambda folder: len(lacking[folder]))
        if lost := lacking[folder]:
            raise UserError(
                f"{self.root / folder / lost[0]}: missing; of {len(paths)} test images "
                f"{len(lost)} are; `ttt-bench data status {self.name}` says how to get them"
            )
        return self.root / folder

    @override
    def path(self, index: int) -> Path:
        return self._images / self.entries[index].key

    @override
    def open_training(self, index: int) -> Image.Image:
        return open_image(self._images / self.training[index].key)

    @override
    def card(self) -> dict[str, Any]:
        # Names, labels and sizes: another list or images that were stored anew show, without
        # reading every image. Where the folder lies and in which layout does not.
        digest = hashlib.sha256()
        for index, entry in enumerate(self.entries):
            size = self.path(index).stat().st_size
            digest.update(f"{entry.key}\0{entry.label}\0{size}\n".encode())
        return {"revision": digest.hexdigest(), "corruption_source": None}

    @override
    def expected_counts(self) -> Mapping[str, int]:
        counts = self.known.per_class
        if len(counts) == 1:
            counts *= self.known.classes
        return dict(zip(self.classes.names, counts, strict=True)) if counts else {}

    @override
    def found_counts(self) -> Mapping[str, int]:
        return Counter(self.classes.names[entry.label] for entry in self.entries)


class ZhouSplit(PublishedSplit):
    """A dataset with one of CoOp's `split_zhou_*.json` in its folder.

    The file holds `train`, `val` and `test`, each a list of [path, label, class name].

    Attributes:
        split_file: its name.
    """

    split_file: ClassVar[str]

    @override
    def read(self) -> Split:
        file = self.root / self.split_file
        if not file.exists():
            raise UserError(
                f"{self.root}: no {self.split_file}; take it from the link in {INSTRUCTIONS} and "
                f"put it there"
            )
        try:
            content = json.loads(file.read_text("utf-8"))
            parts = {part: [tuple(row) for row in content[part]] for part in _PARTS}
        except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"{file}: not a split file of CoOp's form ({reason})") from error
        names: dict[int, str] = {}
        for part, rows in parts.items():
            for place, row in enumerate(rows):
                match row:
                    case (str(), int(label), str(name)):
                        if names.setdefault(label, name) != name:
                            raise UserError(
                                f"{file}: label {label} is {names[label]!r} and also {name!r}"
                            )
                    case _:
                        raise UserError(
                            f"{file}: entry {place} of {part!r} is {list(row)!r}, a path, a label "
                            f"and a class name are expected"
                        )
        test, training = ([row[:2] for row in parts[part]] for part in ("test", "train"))
        return Split(file, names, test, training)


_PARTS = ("train", "val", "test")


def spaced(name: str) -> str:
    """A class name as prompts have it, underscores as spaces."""
    return name.replace("_", " ")


def _repeated(values: Iterable[str]) -> str | None:
    """The most frequent of the values where it is there more than once."""
    value, count = Counter(values).most_common(1)[0]
    return value if count > 1 else None


def leaves_folder(path: str) -> bool:
    """Whether a path relative to a folder is empty or points out of it."""
    pure = PurePosixPath(path)
    return not path or pure.is_absolute() or ".." in pure.parts or "\\" in path


def missing(folder: Path, paths: Iterable[str]) -> list[str]:
    """Those of the relative paths that are not in the folder, in their order.

    Folders are listed, files not looked at one by one: on a network disk that is much faster.

    Raises:
        UserError: a folder cannot be listed.
    """
    there: dict[str, set[str]] = {}
    absent = []
    for path in paths:
        parent, _, name = path.rpartition("/")
        if parent not in there:
            there[parent] = _listed(folder / parent)
        if name not in there[parent]:
            absent.append(path)
    return absent


def _listed(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as files:
            return {file.name for file in files}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
