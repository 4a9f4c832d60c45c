"""Copies of ImageNet and of the sets that share its classes, in containers instead of folders.

The hub's copies call the classes by WordNet ids (`n01440764`), by the synset's words (`tench, Tinca
tinca`), by one of the words, or by CLIP's names. Each way leads to the class's position among
ImageNet-1k's 1000, and from there to the name of its folder in the published set.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from ttt_bench.datasets.imagenet import (
    ImageNet,
    ImageNetA,
    ImageNetFolders,
    ImageNetR,
    ImageNetSketch,
    ImageNetV2,
    class_indices,
    synsets,
)

KINDS = (ImageNet, ImageNetA, ImageNetR, ImageNetV2, ImageNetSketch)
# File names in the sets as they were published.
PUBLISHED_FILES = {
    "imagenet": re.compile(r"ILSVRC2012_val_\d{8}\.JPEG"),
    "imagenet-a": re.compile(r"\d+\.\d+_.+\.jpg"),
    "imagenet-r": re.compile(r"[a-z]+_\d+\.jpg"),
    "imagenet-v2": re.compile(r"[0-9a-f]{40}\.jpeg"),
    "imagenet-sketch": re.compile(r"sketch_\d+\.JPEG"),
}
# The hub's imagenet-1k has `ILSVRC2012_val_00000001_n01751748.JPEG`.
ADDED_WORDNET_ID = re.compile(r"_n\d{8}(?=\.\w+$)")
# Class names that a copy has made different by a number, as `crane2`.
ADDED_NUMBER = re.compile(r"(?<=[a-z]{2})\d+$")


@dataclass(frozen=True)
class ImageNetCopy:
    """All images of a published set, in a container.

    Attributes:
        kind: the class that reads the set from its folder.
        indices: positions of the set's classes among ImageNet-1k's 1000, in their order.
        positions: position among the 1000 by the container's label.
    """

    kind: type[ImageNetFolders]
    indices: tuple[int, ...]
    positions: Mapping[int, int]

    @property
    def name(self) -> str:
        """The set's name."""
        return self.kind.spec.name

    def label(self, label: int) -> int:
        """Return the published set's label for a label of the container."""
        return self.indices.index(self.positions[label])

    def keys(self, labels: Sequence[int], image_files: Sequence[str]) -> list[str] | None:
        """Return the keys that the images have in the published set, None where they are lost.

        Args:
            labels: each image's label in the container.
            image_files: the name of the file that each image was made from, "" where not known.
        """
        names = [ADDED_WORDNET_ID.sub("", PurePosixPath(file).name) for file in image_files]
        if not all(map(PUBLISHED_FILES[self.name].fullmatch, names)):
            return None
        folders = [self.kind.folder_name(self.positions[label]) for label in labels]
        keys = [f"{folder}/{name}" for folder, name in zip(folders, names, strict=True)]
        return keys if len(set(keys)) == len(keys) else None


def find_copy(names: Sequence[str], labels: Sequence[int]) -> ImageNetCopy | None:
    """Return the published set whose classes and number of images these are, None if there is none.

    Args:
        names: the container's class names, by label.
        labels: each image's label.
    """
    counts = Counter(labels)
    used = sorted(counts)
    for kind in KINDS:
        per_class = {kind.spec.per_class} if kind.spec.per_class else set(counts.values())
        if kind.spec.total != len(labels) or set(counts.values()) != per_class:
            continue
        indices = class_indices(kind.spec.class_list)
        positions = match_classes([names[label] for label in used], indices)
        if positions is not None:
            return ImageNetCopy(kind, indices, dict(zip(used, positions, strict=True)))
    return None


def match_classes(names: Sequence[str], indices: Sequence[int]) -> list[int] | None:
    """Return the position among the 1000 of each name, None unless these are the classes.

    Each class has to be named once. Where two classes share a name, as the two cranes, the order of
    the names tells which is which.

    Args:
        names: the names, in any order.
        indices: the positions of the classes, in the order of the published set.
    """
    if len(names) != len(indices):
        return None
    # One way for all names first: CLIP's name of a class may be a synset's word of another.
    for tables in (*((table,) for table in _tables()), _tables()):
        positions = _match(names, indices, tables)
        if positions is not None:
            return positions
    return None


def _match(
    names: Sequence[str], indices: Sequence[int], tables: Sequence[Mapping[str, set[int]]]
) -> list[int] | None:
    among = set(indices)
    candidates = [_positions(_plain(name), among, tables) for name in names]
    certain = {position for some in candidates if len(some) == 1 for position in some}
    positions: list[int] = []
    for index, some in zip(indices, candidates, strict=True):
        left = some if len(some) == 1 else some & {index} or some - certain
        if len(left) != 1:
            return None
        positions += left
    return positions if len(set(positions)) == len(positions) else None


def wordnet_positions(names: Sequence[str]) -> list[int] | None:
    """Return the positions of WordNet ids among the 1000, None if a name is none of their ids."""
    by_id = {synset: position for position, synset in enumerate(synsets())}
    return [by_id[name] for name in names] if all(name in by_id for name in names) else None


def _positions(name: str, among: set[int], tables: Sequence[Mapping[str, set[int]]]) -> set[int]:
    """Return which of some positions are called so by the first table that knows the name."""
    return next(filter(None, (table.get(name, set()) & among for table in tables)), set())


@cache
def _tables() -> tuple[Mapping[str, set[int]], ...]:
    """Return the positions by name, for each way to call a class, the most exact way first."""
    lemmas = files("timm").joinpath("data", "_info", "imagenet_synset_to_lemma.txt")
    lines = (line.partition("\t") for line in lemmas.read_text("utf-8").splitlines())
    words = {synset: text for synset, _, text in lines}
    by_id: dict[str, set[int]] = {}
    by_words: dict[str, set[int]] = {}
    by_word: dict[str, set[int]] = {}
    by_clip: dict[str, set[int]] = {}
    for position, synset in enumerate(synsets()):
        by_id[synset] = {position}
        by_words.setdefault(_plain(words[synset]), set()).add(position)
        by_clip.setdefault(_plain(IMAGENET_CLASSNAMES[position]), set()).add(position)
        for word in words[synset].split(","):
            by_word.setdefault(_plain(word), set()).add(position)
    return by_id, by_words, by_clip, by_word


def _plain(name: str) -> str:
    words = " ".join(name.replace("_", " ").lower().split()).replace('"', "")
    return ADDED_NUMBER.sub("", words)
