"""A dataset that lies in a folder, as an archive unpacks it."""

from pathlib import Path

from birds_facts import SPEC

from ttt_bench import ClassSet, Entry, OnDisk, UserError, find_folder


class Birds(OnDisk):
    """Photographs of birds, called after their kind, such as robin-1.png."""

    spec = SPEC
    classes = ClassSet(("robin", "wren"), prompt="a photo of a {}, a bird.")

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = SPEC.name
        self.root = find_folder(SPEC.name, SPEC.folders, data_root)
        files = sorted((self.root / "photos").glob("*.png"))
        if not files:
            raise UserError(f"{self.root}: no photos; download them again")
        self.entries = [
            Entry(file.name, None, self.classes.names.index(file.name.split("-")[0]))
            for file in files
        ]

    def path(self, index: int) -> Path:
        """Return the file of an entry."""
        return self.root / "photos" / self.entries[index].key

    def expected_counts(self) -> dict[str, int]:
        """Return how many photographs were published."""
        return {"all classes": 4}

    def actual_counts(self) -> dict[str, int]:
        """Return how many photographs lie here."""
        return {"all classes": len(self.entries)}
