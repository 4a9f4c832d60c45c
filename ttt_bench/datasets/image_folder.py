"""`imagefolder:PATH`: the user's own images, one folder per class."""

from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import override

from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import Dataset, Entry, is_text
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import FINGERPRINT, fingerprint, open_image, read_encoded
from ttt_bench.datasets.class_names import NAMES_FILE, read_names_of
from ttt_bench.datasets.facts.image_folder import IMAGE_FOLDER
from ttt_bench.datasets.image_files import is_image


class ImageFolder(Dataset):
    """`PATH/<class folder>/<image>`, the classes in the order of their folders' names.

    Where PATH holds `train`, perhaps `test` or `val`, and no other folder, the class folders are in
    these: the first gives the training images, the others the test images.

    A file `classnames.txt` beside the folders gives the names to use in prompts, with a line
    `folder name` for each class; without it a class has its folder's name, underscores as spaces.
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
        subfolders = {path.name for path in self.root.iterdir() if path.is_dir()}
        if "train" in subfolders and subfolders <= {"train", "test", "val"}:
            class_folders = _class_folders(self.root / "train")
            self._training_files = _images(self.root / "train", class_folders)
            test = next((split for split in ("test", "val") if split in subfolders), None)
            self._files = _images(self.root / test, class_folders) if test else []
        else:
            class_folders = _class_folders(self.root)
            self._training_files = []
            self._files = _images(self.root, class_folders)
        if not self._files and not self._training_files:
            raise UserError(
                f"{self.name}: no images in folders of {self.root}; put each class's "
                f"images in a folder of its own"
            )
        self.classes = ClassSet(self._read_names(class_folders))
        self.entries = self._entries(self._files)
        self.training = self._entries(self._training_files)

    def _entries(self, files: list[tuple[int, Path]]) -> list[Entry]:
        return [Entry(path.relative_to(self.root).as_posix(), None, label) for label, path in files]

    def _read_names(self, class_folders: list[str]) -> tuple[str, ...]:
        file = self.root / NAMES_FILE
        if not file.exists():
            return tuple(folder.replace("_", " ") for folder in class_folders)
        return read_names_of("folder", class_folders, file)

    @override
    def open(self, index: int) -> Image.Image:
        return open_image(self._files[index][1])

    @override
    def encoded(self, index: int) -> bytes | None:
        return read_encoded(self._files[index][1])

    @override
    def open_training(self, index: int) -> Image.Image:
        return open_image(self._training_files[index][1])

    @property
    @override
    def identity(self) -> str:
        return f"{self.namespace}:{self._revision()[:FINGERPRINT]}"

    @property
    @override
    def namespace(self) -> str:
        return IMAGE_FOLDER.name

    def _revision(self) -> str:
        files = zip(self.entries, self._files, strict=True)
        return fingerprint((entry.key, path) for entry, (_, path) in files)

    @override
    def card(self) -> dict[str, Any]:
        return {"revision": self._revision(), "corruption_source": None}


def _class_folders(root: Path) -> list[str]:
    """Return the class folders' names; prompts and cards hold them, so they have to be text."""
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    if not_text := [name for name in names if not is_text(name)]:
        raise UserError(f"{root}: the name of the folder {not_text[0]!r} is not UTF-8; rename it")
    return names


def _images(root: Path, class_folders: list[str]) -> list[tuple[int, Path]]:
    """Return label and path of every image in the class folders of `root`."""
    if unknown := sorted(set(_class_folders(root)) - set(class_folders)):
        raise UserError(f"{root / unknown[0]}: no such class among the training images; remove it")
    return [
        (label, path)
        for label, name in enumerate(class_folders)
        for path in sorted((root / name).rglob("*"))
        if is_image(str(path))
    ]
