"""PackedImages: images in containers, such as the rows of a table or the members of archives."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image
from typing_extensions import override

from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import Dataset, Entry
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import FINGERPRINT, decode_image, fingerprint_of_sizes
from ttt_bench.api.specs import DatasetSpec
from ttt_bench.datasets.imagenet import class_set
from ttt_bench.datasets.imagenet_copies import find_copy, wordnet_positions


@dataclass(frozen=True, slots=True)
class PackedImage:
    """One image of a container.

    Attributes:
        key: names it by its content or by a name within the container, never by a place on disk.
        file: the name of the file that it was made from, "" where it is not known.
        label: the container's number of its class.
        size: its size in bytes.
    """

    key: str
    file: str
    label: int
    size: int


class PackedImages(Dataset):
    """Images in a container, by class and then by key, whatever their order in it.

    All images of ImageNet, ImageNet-A, -R, -V2 or -Sketch are that dataset: the same classes and
    labels, and under the published file names the same keys and revision as in its folder, so the
    rows of equal images stand in one column. Without the file names the revision says `copy`.

    Attributes:
        spec: the container's facts.
    """

    spec: ClassVar[DatasetSpec]

    @abstractmethod
    def read(self, number: int) -> bytes:
        """Return the bytes of an image.

        Args:
            number: its place in the list that `_arrange` got.

        Raises:
            OSError: the container cannot be read.
        """

    @abstractmethod
    def where(self, number: int) -> str:
        """Return where an image lies, for messages."""

    def _arrange(self, images: Sequence[PackedImage], names: Sequence[str]) -> None:
        """Put the images in order; the constructor of a subclass ends with it.

        Args:
            images: all images, their labels within `names`.
            names: the class names by label.

        Raises:
            UserError: there are no images, or two have one key.
        """
        if not images:
            raise UserError(f"{self.name}: holds no images; give data that has some")
        labels = [image.label for image in images]
        keys = [image.key for image in images]
        copy = find_copy(names, labels)
        prefix = ""
        if copy is not None:
            self.classes = class_set(copy.indices)
            published = copy.keys(labels, [image.file for image in images])
            prefix = "" if published else "copy "
            keys = published or keys
            in_set = {label: copy.label(label) for label in copy.positions}
            labels = [in_set[label] for label in labels]
        else:
            self.classes = _classes(names)
        rows = sorted(zip(labels, keys, range(len(images)), strict=True))
        _require_unique(self.name, keys)
        self.entries = [Entry(key, None, label) for label, key, _ in rows]
        self._numbers = [number for _, _, number in rows]
        # The keys in the published sets name the class; those of other data may not.
        sizes = (
            (key if copy else f"{label}/{key}", images[number].size) for label, key, number in rows
        )
        revision = fingerprint_of_sizes(sizes)
        self._revision = f"{prefix}{revision}"
        self._namespace = self.spec.name if copy is None else copy.name
        self._identity = f"{self.spec.name}:{revision[:FINGERPRINT]}" if copy is None else copy.name

    @override
    def open(self, index: int) -> Image.Image:
        number = self._numbers[index]
        try:
            encoded = self.read(number)
        except OSError as error:
            raise UserError(
                f"{self.where(number)}: cannot be read ({error}); repair the data"
            ) from error
        return decode_image(encoded, self.where(number))

    @override
    def encoded(self, index: int) -> bytes | None:
        return self.read(self._numbers[index])

    @override
    def card(self) -> dict[str, Any]:
        return {"revision": self._revision, "corruption_source": None}

    @property
    @override
    def identity(self) -> str:
        return self._identity

    @property
    @override
    def namespace(self) -> str:
        return self._namespace


def _classes(names: Sequence[str]) -> ClassSet:
    """Return the classes of these names; WordNet ids of ImageNet's classes get CLIP's names."""
    positions = wordnet_positions(names)
    if positions is not None:
        return class_set(positions)
    return ClassSet(tuple(name.replace("_", " ") for name in names))


def _require_unique(dataset: str, keys: Sequence[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise UserError(f"{dataset}: two images are called {key}; give each a name of its own")
        seen.add(key)
