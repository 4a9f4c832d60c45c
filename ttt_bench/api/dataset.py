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
        name: as typed by the user.
        classes: the classes, in the order of the labels.
        augmix: whether methods that draw views should draw AugMix ones.
        entries: every test image, in a fixed order, the groups one after another.
        training: labelled training images, for methods that learn before the test; often none.
    """

    name: str
    classes: ClassSet
    augmix: bool = False
    entries: Sequence[Entry]
    training: Sequence[Entry] = ()

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

    def open_training(self, index: int) -> Image.Image:
        """Decode training entry `index` to RGB; only datasets that have `training` need it."""
        raise NotImplementedError(f"{self.name} has no training images")

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """Return what the protocol card records: `revision` and `corruption_source`."""

    def sample_id(self, index: int) -> str:
        """Return the opaque name of entry `index`: a hash, since keys may carry labels."""
        # A file's name is bytes; those that are no text come from the system as surrogates.
        key = f"{self.name}\0{self.entries[index].key}".encode("utf-8", "surrogateescape")
        return hashlib.blake2b(key, digest_size=8).hexdigest()


def is_text(name: str) -> bool:
    """Say whether a name can be written as UTF-8; one that is any bytes holds surrogates."""
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
