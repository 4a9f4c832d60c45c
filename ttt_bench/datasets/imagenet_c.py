"""ImageNet-C: the validation images under 15 corruptions at 5 severities."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typing_extensions import override

from ttt_bench.api.dataset import Entry
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import FINGERPRINT, OnDisk, find_folder, read_encoded
from ttt_bench.datasets.class_folders import read_entries, require_complete
from ttt_bench.datasets.corruptions import CorruptedEntries, corrupt, parse_selection
from ttt_bench.datasets.facts import imagenet as facts
from ttt_bench.datasets.imagenet import IMAGENET_CLASS_SET, ImageNet, synsets

# The archives' names; some users have unpacked each into a folder of its own.
CATEGORIES = ("blur", "digital", "noise", "weather")
# One of so many images enters the revision; all 3.75 million would take minutes.
REVISION_EVERY = 50


class ImageNetC(OnDisk):
    """`imagenet-c:[CORRUPTION][@SEVERITY][,...][:generated[=PATH]]`; without a choice all 75.

    The official files are `<corruption>/<severity>/<WordNet id>/<file>`, also with the archive's
    name before the corruption, as in `blur/defocus_blur`.

    With `:generated` the images are made, each when it is opened, from the clean ones that
    `imagenet` finds, or `imagenet:PATH` with `=PATH`: the shorter side scaled to 256 pixels, the
    middle 224 x 224 cut out, corrupted with a seed that depends on image, corruption and severity
    only. ImageNet-C's authors then saved theirs as JPEG of quality 85; these are not encoded again.
    So they are other images, and the card says which of the two a run has seen.

    Raises:
        UserError: the folder is missing or incomplete, the argument cannot be read, or the package
            that generates is not installed.
    """

    spec = facts.IMAGENET_C
    classes = IMAGENET_CLASS_SET

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = f"imagenet-c:{argument}" if argument else "imagenet-c"
        self._selection = parse_selection("imagenet-c", argument)
        self._source = self._selection.source
        self._clean: ImageNet | None = None
        if self._selection.generated:
            self._clean = ImageNet(self._selection.clean, data_root)
            self.root = self._clean.root
            clean = self._clean.entries
        else:
            self.root = find_folder(self.spec.name, self.spec.folders, data_root)
            self._folders = {
                condition: self._find(*condition) for condition in self._selection.conditions
            }
            clean = self._read_official()
        self._corrupted = CorruptedEntries(self._selection, clean)
        self.entries = self._corrupted

    def _read_official(self) -> list[Entry]:
        """Return the images that every selected condition has, checked to be the same in all."""
        labels = {synset: label for label, synset in enumerate(synsets())}
        first: list[Entry] = []
        for folder in self._folders.values():
            entries = read_entries(self.name, folder, labels)
            if not first:
                require_complete(
                    self.name,
                    folder,
                    entries,
                    labels,
                    total=ImageNet.spec.total,
                    per_class=ImageNet.spec.per_class,
                    remedy="unpack it again",
                )
                first = entries
            elif entries != first:
                first_folder = next(iter(self._folders.values()))
                keys = {entry.key for entry in first} ^ {entry.key for entry in entries}
                raise UserError(
                    f"{self.name}: {folder} and {first_folder} hold different images, first "
                    f"{min(keys)}; "
                    "unpack them again"
                )
        return first

    def _find(self, corruption: str, severity: int) -> Path:
        for category in ("", *CATEGORIES):
            folder = self.root / category / corruption
            if folder.is_dir():
                break
        else:
            raise UserError(
                f"{self.name}: no folder {corruption} in {self.root}; unpack the archive that "
                "holds it, select another corruption, or append :generated"
            )
        if not (folder / str(severity)).is_dir():
            raise UserError(f"{self.name}: no folder {severity} in {folder}; unpack it again")
        return folder / str(severity)

    @override
    def path(self, index: int) -> Path:
        corruption, severity, row = self._corrupted.locate(index)
        if self._clean is not None:
            return self._clean.path(row)
        return self._folders[corruption, severity] / self._corrupted.clean[row].key

    @override
    def open(self, index: int) -> Image.Image:
        image = super().open(index)
        if self._clean is None:
            return image
        corruption, severity, row = self._corrupted.locate(index)
        key = self._corrupted.clean[row].key
        return Image.fromarray(
            corrupt(np.asarray(imagenet_c_crop(image)), corruption, severity, key)
        )

    @override
    def encoded(self, index: int) -> bytes | None:
        encoded = read_encoded(self.path(index))
        if self._clean is None:
            return encoded
        corruption, severity, row = self._corrupted.locate(index)
        made = f"{corruption}@{severity}\0{self._corrupted.clean[row].key}\0{self._source}"
        return encoded + made.encode("utf-8", "surrogateescape")

    @property
    @override
    def identity(self) -> str:
        if self._clean is None or not self._selection.clean:
            return self.name
        return f"{self.namespace}={self._clean.revision()[:FINGERPRINT]}"

    @property
    @override
    def namespace(self) -> str:
        return self.name.partition("=")[0]

    @override
    def card(self) -> dict[str, Any]:
        if self._clean is not None:
            return {**self._clean.card(), "corruption_source": self._source}
        return {"revision": self.revision(REVISION_EVERY), "corruption_source": self._source}


def imagenet_c_crop(image: Image.Image) -> Image.Image:
    """Return the 224 x 224 pixels that ImageNet-C corrupts.

    The shorter side is scaled to 256 pixels (bilinear) and the middle cut out, with the rounding of
    torchvision's Resize and CenterCrop, which ImageNet-C's authors used.
    """
    short = min(image.size)
    width, height = (256 if side == short else int(256 * side / short) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    return scaled.crop((left, top, left + 224, top + 224))
