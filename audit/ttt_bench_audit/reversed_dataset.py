"""`reversed:NAME`: another dataset from its last image to its first."""

from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import override

from ttt_bench import Dataset, load_dataset

ORDER = "in reverse order"


class Reversed(Dataset):
    """`reversed:NAME`, the entries of the dataset `NAME` in reverse order.

    An image keeps its key, its id and with it its random draws, so the records of both datasets can
    be compared sample by sample. Both have one protocol part of the card.

    Raises:
        UserError: there is no dataset `NAME`, or its data is missing.
    """

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self._dataset = load_dataset(argument, data_root)
        self.name = f"reversed:{argument}"
        self.classes = self._dataset.classes
        self.augmix = self._dataset.augmix
        self.entries = list(reversed(self._dataset.entries))
        self.training = self._dataset.training
        # On the row part of the card: the samples are those of one column, the rows are two.
        self.read_from = ", ".join(filter(None, (self._dataset.read_from, ORDER)))

    @override
    def open(self, index: int) -> Image.Image:
        return self._dataset.open(self._forward(index))

    @override
    def encoded(self, index: int) -> bytes | None:
        return self._dataset.encoded(self._forward(index))

    @override
    def open_training(self, index: int) -> Image.Image:
        return self._dataset.open_training(index)

    @override
    def card(self) -> dict[str, Any]:
        return self._dataset.card()

    @property
    @override
    def identity(self) -> str:
        return self._dataset.identity

    @property
    @override
    def namespace(self) -> str:
        return self._dataset.namespace

    def _forward(self, index: int) -> int:
        """Return the place of entry `index` in the dataset that is reversed."""
        return len(self.entries) - 1 - index
