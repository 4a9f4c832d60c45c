"""`cifar10-c-mini`: corrupted photographs that come with every installation."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import override

from ttt_bench.api.dataset import Dataset, Entry
from ttt_bench.api.errors import UserError
from ttt_bench.datasets.corruptions import parse_conditions
from ttt_bench.datasets.facts import cifar as facts
from ttt_bench.datasets.image_sheets import ImageSheets

CLEAN, VALIDATION = "clean", "validation"
TEST_FILE = Path(__file__).with_name("cifar10_c_mini.npz")
VALIDATION_FILE = Path(__file__).with_name("cifar10_c_mini_validation.npz")
FEW_SHOT_FILE = Path(__file__).with_name("cifar10_few_shot.npz")
SEVERITIES = (3, 5)
VALIDATION_SEVERITIES = (5,)
STRENGTHS = "CIFAR-10-C's own strengths, made by tools/build_cifar10_c_mini.py"
VALIDATION_USE = "CIFAR-10 training images for choosing hyper-parameters, never test images"


@dataclass(frozen=True)
class Choice:
    """The images that the part after the colon in `cifar10-c-mini:...` selects.

    Attributes:
        validation: whether they are held-out training images instead of test images.
        clean: whether the uncorrupted images are among them.
        conditions: (corruption, severity), in the order of the tables and then by severity.
    """

    validation: bool
    clean: bool
    conditions: tuple[tuple[str, int], ...]

    @property
    def groups(self) -> list[str]:
        """Return the names of the groups: `clean` first, then `fog@5` and so on."""
        corrupted = [f"{corruption}@{severity}" for corruption, severity in self.conditions]
        return [CLEAN] * self.clean + corrupted

    @property
    def source(self) -> str | None:
        """Return the protocol card's words for the source of the corruptions, None for none."""
        parts = []
        if self.conditions:
            severities = sorted({severity for _, severity in self.conditions})
            word = "severity" if len(severities) == 1 else "severities"
            parts.append(f"{STRENGTHS}, {word} {', '.join(map(str, severities))}")
        if self.validation:
            parts.append(VALIDATION_USE)
        return "; ".join(parts) or None


def parse_choice(argument: str) -> Choice:
    """Read `[validation,][clean,][CORRUPTION][@SEVERITY][,...]`.

    Nothing stands for the clean images and all 15 corruptions at severity 5; a severity alone for
    the clean images and all 15 at that severity; a corruption alone for its severities.

    Raises:
        UserError: a word, a corruption or a severity is not known.
    """
    name = facts.CIFAR10_C_MINI.name
    items = [item.strip() for item in argument.split(",")] if argument else []
    if "" in items:
        raise UserError(f"{name}:{argument}: a comma has no condition beside it; remove the comma")
    validation = items[:1] == [VALIDATION]
    items = items[validation:] or ["@5"]
    if VALIDATION in items:
        raise UserError(f"{name}:{argument}: {VALIDATION} comes first; write it once, at the start")
    severities = VALIDATION_SEVERITIES if validation else SEVERITIES
    corrupted = [item for item in items if item != CLEAN]
    clean = CLEAN in items or any(item.startswith("@") for item in corrupted)
    if not corrupted:
        return Choice(validation, clean, ())
    chosen = ",".join(corrupted)
    conditions = parse_conditions(name, chosen, severities, severities, (CLEAN, VALIDATION))
    return Choice(validation, clean, conditions)


class Cifar10CMini(Dataset):
    """`cifar10-c-mini:[validation,][clean,][CORRUPTION][@SEVERITY][,...]`.

    200 class-balanced test images of CIFAR-10, clean and under the 15 corruptions with CIFAR-10-C's
    own strengths, at severity 5 unless severity 3 is selected. Published CIFAR-10-C numbers are of
    the same distribution, not of the same images.

    `validation` selects images of the training set under the same corruptions at severity 5. They
    are for choosing hyper-parameters, never test images.

    32 more training images per class are beside them, for methods that learn from a few labels.
    Built by tools/build_cifar10_c_mini.py.

    Raises:
        UserError: the argument cannot be read.
    """

    classes = facts.CIFAR10_CLASSES

    def __init__(self, argument: str, data_root: Path | None) -> None:
        base = facts.CIFAR10_C_MINI.name
        self.name = f"{base}:{argument}" if argument else base
        self._choice = parse_choice(argument)
        self._file = VALIDATION_FILE if self._choice.validation else TEST_FILE
        self._sheets = _sheets(self._file)
        self._groups = self._choice.groups
        key = "validation/{}/{:05d}" if self._choice.validation else "{}/{:04d}"
        rows = list(zip(self._sheets.indices.tolist(), self._sheets.labels.tolist(), strict=True))
        self.entries = [
            Entry(key.format(group, index), group, label)
            for group in self._groups
            for index, label in rows
        ]
        self._few_shot = _sheets(FEW_SHOT_FILE)
        labels = self._few_shot.labels.tolist()
        self.training = [
            Entry(f"train/{index:05d}", None, label)
            for index, label in zip(self._few_shot.indices.tolist(), labels, strict=True)
        ]

    @override
    def open(self, index: int) -> Image.Image:
        group, row = divmod(range(len(self.entries))[index], len(self._sheets.labels))
        return Image.fromarray(self._sheets.images(self._groups[group])[row])

    @override
    def open_training(self, index: int) -> Image.Image:
        return Image.fromarray(self._few_shot.images(CLEAN)[index])

    @override
    def card(self) -> dict[str, Any]:
        return {
            "revision": hashlib.sha256(self._file.read_bytes()).hexdigest(),
            "corruption_source": self._choice.source,
        }

    @property
    @override
    def identity(self) -> str:
        is_default = self._choice == parse_choice("")
        return facts.CIFAR10_C_MINI.name if is_default else self.name

    @property
    @override
    def namespace(self) -> str:
        # An image has one id in every selection that holds it.
        return facts.CIFAR10_C_MINI.name


@cache
def _sheets(file: Path) -> ImageSheets:
    """Return the images of a file; the methods of one process decode them once."""
    return ImageSheets(file)
