"""`imagefolder:PATH`: anybody's own images, one folder per class."""

import hashlib
from pathlib import Path
from typing import Any

from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from PIL import Image
from typing_extensions import override

from ttt_bench.datasets.base import Dataset, Entry
from ttt_bench.errors import UserError

NAMES_FILE = "classnames.txt"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})


class ImageFolder(Dataset):
    """`PATH/<class folder>/<image>`, the classes in the order of their folders' names.

    A file `classnames.txt` beside the folders gives the names to use in prompts, a line
    `folder name` each; without it a class is called what its folder is, underscores as spaces.
    """

    templates = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = f"imagefolder:{argument}"
        self.root = Path(argument)
        if not self.root.is_dir() and data_root is not None:
            self.root = data_root / argument
        if not self.root.is_dir():
            raise UserError(f"{self.name}: there is no folder {argument}; give the path of one")
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        self._files = [
            (label, path)
            for label, folder in enumerate(folders)
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in SUFFIXES
        ]
        if not self._files:
            raise UserError(
                f"{self.name}: no images in folders of {self.root}; put each class's "
                f"images in a folder of its own"
            )
        self.class_names = self._read_names([folder.name for folder in folders])
        self.entries = [
            Entry(path.relative_to(self.root).as_posix(), None, label)
            for label, path in self._files
        ]

    def _read_names(self, folders: list[str]) -> tuple[str, ...]:
        file = self.root / NAMES_FILE
        if not file.exists():
            return tuple(folder.replace("_", " ") for folder in folders)
        lines = [line.split(maxsplit=1) for line in file.read_text("utf-8").splitlines() if line]
        names = {parts[0]: parts[-1] for parts in lines if parts}
        missing = [folder for folder in folders if folder not in names]
        if missing:
            raise UserError(
                f"{file}: no name for the folder {missing[0]}; write a line `{missing[0]} NAME`"
            )
        return tuple(names[folder] for folder in folders)

    @override
    def open(self, index: int) -> Image.Image:
        _, path = self._files[index]
        try:
            with Image.open(path) as image:
                return image.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(
                f"{path}: not a readable image ({error}); replace or remove it"
            ) from error

    @override
    def card(self) -> dict[str, Any]:
        # Names and sizes: enough to see that a folder changed, without reading every image.
        digest = hashlib.sha256()
        for _, path in self._files:
            line = f"{path.relative_to(self.root).as_posix()}\0{path.stat().st_size}\n"
            digest.update(line.encode())
        return {"revision": digest.hexdigest(), "corruption_source": None}
