"""SourceImages: a dataset's training images, for methods that use them without their labels."""

from collections.abc import Sequence
from typing import overload
from weakref import WeakKeyDictionary

from PIL import Image
from typing_extensions import override

from ttt_bench.api.dataset import Dataset


class SourceImages(Sequence[Image.Image]):
    """The training images of a dataset, decoded when they are read; the labels stay behind."""

    def __init__(self, dataset: Dataset) -> None:
        _datasets[self] = dataset

    @override
    def __len__(self) -> int:
        return len(_datasets[self].training)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...
    @override
    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        dataset = _datasets[self]
        if isinstance(index, slice):
            return [dataset.open_training(one) for one in range(len(self))[index]]
        return dataset.open_training(range(len(self))[index])


# Outside of the sequence, which methods hold: the dataset knows the labels.
_datasets: WeakKeyDictionary[SourceImages, Dataset] = WeakKeyDictionary()
