"""`photos`: photographs with ImageNet labels that come with the package."""

import csv
import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import override

from ttt_bench import IMAGENET_CLASS_SET, Dataset, Entry, open_image

TABLE = Path(__file__).with_name("photos.csv")
IMAGES = Path(__file__).with_name("images")


class Photos(Dataset):
    """256 photographs, each with one of ImageNet's 1000 labels; all classes are candidates.

    Drawn from 1000 by tools/build_photos.py. `photos.csv` names the author of each.
    """

    classes = IMAGENET_CLASS_SET

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = "photos"
        with TABLE.open(encoding="utf-8", newline="") as file:
            self.entries = [
                Entry(row["id"], None, int(row["label"])) for row in csv.DictReader(file)
            ]

    def path(self, index: int) -> Path:
        """Return the file of entry `index`."""
        return IMAGES / f"{self.entries[index].key}.jpg"

    @override
    def open(self, index: int) -> Image.Image:
        return open_image(self.path(index))

    @override
    def encoded(self, index: int) -> bytes:
        return self.path(index).read_bytes()

    @cached_property
    def revision(self) -> str:
        """A SHA-256 over keys, labels and files."""
        digest = hashlib.sha256()
        for index, entry in enumerate(self.entries):
            digest.update(f"{entry.key}\0{entry.label}\0".encode())
            digest.update(hashlib.sha256(self.encoded(index)).digest())
        return digest.hexdigest()

    @override
    def card(self) -> dict[str, Any]:
        return {"revision": self.revision, "corruption_source": None}
