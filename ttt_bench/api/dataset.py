"""Dataset and Entry: what the author of a dataset implements."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ttt_bench.api.class_set import ClassSet


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a dataset, as the engine knows it; methods never see this.

    Attributes:
        key: names the image within its dataset.
        group: its corruption or domain, None where the dataset has none.
        label: index into the dataset's class names.
    """

    key: str
    group: str | None
    label: int


class Dataset(ABC):
    """Labelled test images.

    Attributes:
        name: as typed by the user, for messages.
        classes: the classes, in the order of the labels.
        augmix: whether methods that draw views should draw AugMix ones.
        entries: every test image, in a fixed order, the groups one after another.
        training: labelled training images, for methods that learn before the test; often none.
        read_from: the copy that the images are read from, "" for a dataset of one copy. It is on
            the row part of the card, since equal images are one column whatever they lie in.
    """

    name: str
    classes: ClassSet
    augmix: bool = False
    entries: Sequence[Entry]
    training: Sequence[Entry] = ()
    read_from: str = ""

    @abstractmethod
    def __init__(self, argument: str, data_root: Path | None) -> None:
        """Find the data that `argument` (the part after the colon) names.

        Args:
            argument: the part after the colon in `name:ARGUMENT`, "" for none.
            data_root: the folder the user gave to look for datasets in, None for none.

        Raises:
            UserError: the data is missing or does not fit.
        """

    @abstractmethod
    def open(self, index: int) -> Image.Image:
        """Decode entry `index` to RGB.

        Raises:
            UserError: the image cannot be read; the message names the file.
        """

    def encoded(self, index: int) -> bytes | None:
        """Return the bytes that entry `index` is decoded from, None where there are none.

        Equal bytes decode to equal pixels. An image whose features are in the feature cache is then
        recognized without decoding it.

        Raises:
            OSError: the file cannot be read.
        """
        return None

    def open_training(self, index: int) -> Image.Image:
        """Decode training entry `index` to RGB; only datasets that have `training` need it."""
        raise NotImplementedError(f"{self.name} has no training images")

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """Return what the protocol card records: `revision` and `corruption_source`."""

    @property
    def identity(self) -> str:
        """The name on protocol cards and in the feature cache: equal for equal data.

        A dataset that is named by a path puts a fingerprint in the path's place. The same images
        then stand in the same column, wherever they lie and however the path was typed.
        """
        return self.name

    @property
    def namespace(self) -> str:
        """The name that sample ids are made under: `identity`, without a fingerprint in it.

        The id of an image, and with it every random draw for it, then survives the repair of
        another image.
        """
        return self.identity

    def sample_id(self, index: int) -> str:
        """Return the opaque name of entry `index`: a hash, since keys may carry labels."""
        # A file name that is no text comes from the system with surrogates for its bytes.
        key = f"{self.namespace}\0{self.entries[index].key}".encode("utf-8", "surrogateescape")
        return hashlib.blake2b(key, digest_size=8).hexdigest()


def is_text(name: str) -> bool:
    """Say whether a name can be written as UTF-8; the system marks other bytes by surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def spread_sample(entries: Sequence[Entry], limit: int | None) -> list[int]:
    """Return indices of `limit` entries, spread evenly over the groups and within each of them.

    Groups take different positions, so that a small limit sees many different photographs of a
    corruption set rather than the same few under every corruption.
    """
    if limit is None or limit >= len(entries):
        return list(range(len(entries)))
    groups: dict[str | None, list[int]] = {}
    for index, entry in enumerate(entries):
        groups.setdefault(entry.group, []).append(index)
    chosen = []
    taken = seen = 0
    for number, members in enumerate(groups.values()):
        seen += len(members)
        quota = seen * limit // len(entries) - taken
        taken += quota
        # Multiples of the golden ratio modulo one spread any number of offsets evenly.
        offset = number * 0.6180339887498949 % 1
        chosen += [members[int((i + offset) * len(members) / quota)] for i in range(quota)]
    return chosen
