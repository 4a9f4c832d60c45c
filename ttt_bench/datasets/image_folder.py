"""`imagefolder:PATH`: anybody's own images, one folder per class."""

import hashlib
from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import override

from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import Dataset, Entry, is_text
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import open_image

NAMES_FILE = "classnames.txt"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})


class ImageFolder(Dataset):
    """`PATH/<class folder>/<image>`, the classes in the order of their folders' names.

    Where PATH holds `train` and, it may be, `test` or `val`, and no other folder, the class folders
    are in those: the first gives the training images, the others the test images.

    A file `classnames.txt` beside the folders gives the names to use in prompts, a line
    `folder name` each; without it a class is called what its folder is, underscores as spaces.
    """

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = f"imagefolder:{argument}"
        self.root = Path(argument)
        if not self.root.is_dir() and data_root is not None:
            self.root = data_root / argument
        if not self.root.is_dir():
            raise UserError(f"{self.name}: there is no folder {argument}; give the path of one")
        if not is_text(argument):
            raise UserError(f"{self.name}: the path is not UTF-8; rename the folder")
        splits = {path.name for path in self.root.iterdir() if path.is_dir()}
        if "train" in splits and splits <= {"train", "test", "val"}:
            classes = _folders(self.root / "train")
            self._training_files = _images(self.root / "train", classes)
            test = next((split for split in ("test", "val") if split in splits), None)
            self._files = _images(self.root / test, classes) if test else []
        else:
            classes = _folders(self.root)
            self._training_files = []
            self._files = _images(self.root, classes)
        if not self._files and not self._training_files:
            raise UserError(
                f"{self.name}: no images in folders of {self.root}; put each class's "
                f"images in a folder of its own"
            )
        self.classes = ClassSet(self._read_names(classes))
        self.entries = self._entries(self._files)
        self.training = self._entries(self._training_files)

    def _entries(self, files: list[tuple[int, Path]]) -> list[Entry]:
        return [Entry(path.relative_to(self.root).as_posix(), None, label) for label, path in files]

    def _read_names(self, folders: list[str]) -> tuple[str, ...]:
        file = self.root / NAMES_FILE
        if not file.exists():
            return tuple(folder.replace("_", " ") for folder in folders)
        try:
            lines = [line.split(maxsplit=1) for line in file.read_text("utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: not readable as text ({error}); save it as UTF-8") from error
        names = {parts[0]: parts[-1] for parts in lines if parts}
        missing = [folder for folder in folders if folder not in names]
        if missing:
            raise UserError(
                f"{file}: no name for the folder {missing[0]}; write a line `{missing[0]} NAME`"
            )
        return tuple(names[folder] for folder in folders)

    @override
    def open(self, index: int) -> Image.Image:
        return open_image(self._files[index][1])

    @override
    def open_training(self, index: int) -> Image.Image:
        return open_image(self._training_files[index][1])

    @override
    def card(self) -> dict[str, Any]:
        # Names and sizes: enough to see that a folder changed, without reading every image.
        digest = hashlib.sha256()
        for _, path in self._files:
            line = f"{path.relative_to(self.root).as_posix()}\0{path.stat().st_size}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return {"revision": digest.hexdigest(), "corruption_source": None}


def _folders(root: Path) -> list[str]:
    """The class folders' names; they go into prompts and cards, so they have to be text."""
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    if strange := [name for name in names if not is_text(name)]:
        raise UserError(f"{root}: the name of the folder {strange[0]!r} is not UTF-8; rename it")
    return names


def _images(root: Path, classes: list[str]) -> list[tuple[int, Path]]:
    """Label and path of every image in the class folders of `root`."""
    if strange := sorted(set(_folders(root)) - set(classes)):
        raise UserError(f"{root / strange[0]}: no such class among the training images; remove it")
    return [
        (label, path)
        for label, name in enumerate(classes)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
