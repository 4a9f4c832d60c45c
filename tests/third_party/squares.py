"""A dataset of squares of one colour, made in memory."""

from pathlib import Path
from typing import Any

from PIL import Image

from ttt_bench import ClassSet, Dataset, DatasetSpec, Entry, UserError, hookimpl

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


class Squares(Dataset):
    """Squares of one colour, each a little darker than the one before."""

    classes = ClassSet(tuple(COLOURS), prompt="a {} square.")

    def __init__(self, argument: str, data_root: Path | None) -> None:
        number = argument or "4"
        if not number.isdecimal() or not 0 < int(number) < 100:
            raise UserError(f"lab-squares:{number} is not between 1 and 99; give another number")
        count = int(number)
        self.name = f"lab-squares:{count}"
        self.entries = [
            Entry(f"{colour}-{shade}", time, label)
            for parity, time in enumerate(("day", "night"))
            for shade in range(parity, count, 2)
            for label, colour in enumerate(COLOURS)
        ]

    def open(self, index: int) -> Image.Image:
        """Draw the square of an entry."""
        colour, shade = self.entries[index].key.split("-")
        red, green, blue = (level - int(shade) % 20 for level in COLOURS[colour])
        return Image.new("RGB", (24, 24), (red, green, blue))

    def card(self) -> dict[str, Any]:
        """Return the version of the squares, and that nobody corrupted them."""
        return {"revision": "1", "corruption_source": None}


@hookimpl
def ttt_bench_datasets() -> list[DatasetSpec]:
    """Return the dataset of this file."""
    return [
        DatasetSpec(
            name="lab-squares",
            summary="squares of one colour; lab-squares:9 for nine of each",
            code="squares:Squares",
            argument="[COUNT]",
            source="drawn",
            licence="CC0",
        )
    ]
