"""ImageNet-C: the validation images under 15 corruptions at 5 severities."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from PIL import Image
from typing_extensions import override

from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import Entry
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import Archive, HowToGet, OnDisk, find_folder
from ttt_bench.datasets.corruptions import CorruptedEntries, corrupt, parse_selection
from ttt_bench.datasets.imagenet import (
    TEMPLATES,
    ImageNet,
    check_complete,
    read_entries,
    synsets,
)

# The archives' names; some have unpacked each into a folder of its own.
CATEGORIES = ("blur", "digital", "noise", "weather")
RECORD = "https://zenodo.org/records/2235448/files"
# Every so many images whose size enters the revision; 3.75 million would take minutes.
SIZED = 50


class ImageNetC(OnDisk):
    """`imagenet-c:[CORRUPTION][@SEVERITY][,...][:generated[=PATH]]`, all 75 without the choice.

    The official files are `<corruption>/<severity>/<WordNet id>/<file>`, also with the archive's
    name before the corruption, as in `blur/defocus_blur`.

    With `:generated` the images are made, each when it is opened, from the clean ones that
    `imagenet` finds, or `imagenet:PATH` with `=PATH`: the shorter side scaled to 256 pixels, the
    middle 224 x 224 cut out, corrupted with a seed that depends on image, corruption and severity
    only. ImageNet-C's authors then saved theirs as JPEG of quality 85; these are not encoded again.
    So they are other images: the card says which a run has seen.

    Raises:
        UserError: the folder is missing or incomplete, the argument cannot be read, or the package
            that generates is not installed.
    """

    folders = ("imagenet-c", "ImageNet-C")
    acquisition = HowToGet(
        archives=(
            Archive(
                url=f"{RECORD}/blur.tar",
                hash="md5:2d8e81fdd8e07fef67b9334fa635e45c",
                size=7_112_704_951,
            ),
            Archive(
                url=f"{RECORD}/digital.tar",
                hash="md5:89157860d7b10d5797849337ca2e5c03",
                size=7_757_510_705,
            ),
            Archive(
                url=f"{RECORD}/noise.tar",
                hash="md5:e80562d7f6c3f8834afb1ecf27252745",
                size=22_565_673_785,
            ),
            Archive(
                url=f"{RECORD}/weather.tar",
                hash="md5:33ffea4db4d93fe4a428c40a6ce0c25d",
                size=12_797_438_995,
            ),
        ),
        gigabytes=50.2,
    )
    classes = ClassSet(
        tuple(IMAGENET_CLASSNAMES), templates=TEMPLATES, imagenet_indices=tuple(range(1000))
    )

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
            self.root = find_folder("imagenet-c", self.folders, data_root)
            self._folders = {
                condition: self._find(*condition) for condition in self._selection.conditions
            }
            clean = self._read_official()
        self._corrupted = CorruptedEntries(self._selection, clean)
        self.entries = self._corrupted

    def _read_official(self) -> list[Entry]:
        """The images that every selected condition has, checked to be the same in all."""
        labels = {synset: label for label, synset in enumerate(synsets())}
        first: list[Entry] = []
        for folder in self._folders.values():
            entries = read_entries(self.name, folder, labels)
            if not first:
                check_complete(
                    self.name,
                    folder,
                    entries,
                    labels,
                    total=ImageNet.total,
                    per_class=ImageNet.per_class,
                    remedy="unpack it again",
                )
                first = entries
            elif entries != first:
                here = next(iter(self._folders.values()))
                keys = {entry.key for entry in first} ^ {entry.key for entry in entries}
                raise UserError(
                    f"{self.name}: {folder} and {here} hold different images, first {min(keys)}; "
                    "unpack them again"
                )
        return first

    def _find(self, corruption: str, severity: int) -> Path:
        for above in ("", *CATEGORIES):
            folder = self.root / above / corruption
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
        corruption, severity, place = self._corrupted.locate(index)
        if self._clean is not None:
            return self._clean.path(place)
        return self._folders[corruption, severity] / self._corrupted.clean[place].key

    @override
    def open(self, index: int) -> Image.Image:
        image = super().open(index)
        if self._clean is None:
            return image
        corruption, severity, place = self._corrupted.locate(index)
        key = self._corrupted.clean[place].key
        return Image.fromarray(corrupt(np.asarray(crop(image)), corruption, severity, key))

    @override
    def card(self) -> dict[str, Any]:
        if self._clean is not None:
            return {**self._clean.card(), "corruption_source": self._source}
        digest = hashlib.sha256()
        for entry in self._corrupted.clean:
            digest.update(f"{entry.key}\n".encode("utf-8", "surrogateescape"))
        for index in range(0, len(self.entries), SIZED):
            digest.update(f"{self.path(index).stat().st_size}\n".encode())
        return {"revision": digest.hexdigest(), "corruption_source": self._source}


def crop(image: Image.Image) -> Image.Image:
    """The 224 x 224 pixels that ImageNet-C corrupts.

    The shorter side is scaled to 256 pixels (bilinear) and the middle cut out, with the rounding of
    torchvision's Resize and CenterCrop, which its authors used.
    """
    short = min(image.size)
    width, height = (256 if side == short else int(256 * side / short) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    return scaled.crop((left, top, left + 224, top + 224))
