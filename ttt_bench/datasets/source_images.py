"""SourceImages: the training images of a dataset, for methods that see them."""

from collections.abc import Sequence
from typing import overload
from weakref import WeakKeyDictionary

from PIL import Image
from typing_extensions import override

from ttt_bench.api.dataset import Dataset


class SourceImages(Sequence[Image.Image]):
    """The training images of a dataset, decoded when they are read.

    Attributes:
        labels: the class of each image, as a position among the classes of the task.
    """

    def __init__(self, dataset: Dataset, classes: Sequence[int] | None = None) -> None:
        """Choose the images of some classes.

        Args:
            dataset: the dataset.
            classes: the dataset's labels of the classes of the task; None for all of them.
        """
        chosen = range(len(dataset.classes)) if classes is None else classes
        positions = {label: position for position, label in enumerate(chosen)}
        labels = [entry.label for entry in dataset.training]
        indices = [index for index, label in enumerate(labels) if label in positions]
        self.labels = [positions[labels[index]] for index in indices]
        _sources[self] = dataset, indices

    @override
    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...
    @override
    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        dataset, indices = _sources[self]
        if isinstance(index, slice):
            return [dataset.open_training(one) for one in indices[index]]
        return dataset.open_training(indices[index])


# Outside of the sequence, which methods hold: the dataset knows the labels of the test.
_sources: WeakKeyDictionary[SourceImages, tuple[Dataset, list[int]]] = WeakKeyDictionary()
