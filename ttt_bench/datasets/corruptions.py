"""The 15 corruptions of ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261).

Their names, which of them a user asked for, the entries that follow, and how they are made where
the official files are not there.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata
from threading import Lock
from typing import Any, overload

import numpy as np
from typing_extensions import override

from ttt_bench.api.dataset import Entry
from ttt_bench.api.errors import UserError, unknown

# In the order, and under the short names, of the tables that TTT-MAE and APM print.
SHORT_NAMES = {
    "brightness": "brigh",
    "contrast": "cont",
    "defocus_blur": "defoc",
    "elastic_transform": "elast",
    "fog": "fog",
    "frost": "frost",
    "gaussian_noise": "gauss",
    "glass_blur": "glass",
    "impulse_noise": "impul",
    "jpeg_compression": "jpeg",
    "motion_blur": "motn",
    "pixelate": "pixel",
    "shot_noise": "shot",
    "snow": "snow",
    "zoom_blur": "zoom",
}
SEVERITIES = (1, 2, 3, 4, 5)
OFFICIAL = "official files"
PACKAGE = "imagecorruptions-imaug"


@dataclass(frozen=True)
class Selection:
    """What stands after the colon of `imagenet-c:...`, read.

    Attributes:
        conditions: (corruption, severity), in the order of the tables and then by severity.
        generated: whether the images are made here instead of read from the official files.
        clean: where the clean images to make them of are, "" for where they are looked for anyway.
    """

    conditions: tuple[tuple[str, int], ...]
    generated: bool
    clean: str

    @property
    def groups(self) -> tuple[str, ...]:
        """Each condition's group: `fog` where all have one severity, else `fog@3`."""
        if len(self._severities) == 1:
            return tuple(corruption for corruption, _ in self.conditions)
        return tuple(f"{corruption}@{severity}" for corruption, severity in self.conditions)

    @property
    def source(self) -> str:
        """What the protocol card says of where the corruptions come from.

        Raises:
            UserError: they are to be generated and the package for it is not installed.
        """
        if not self.generated:
            return OFFICIAL
        word = "severity" if len(self._severities) == 1 else "severities"
        severities = ", ".join(map(str, self._severities))
        return f"generated: {PACKAGE} {generator_version()}, {word} {severities}"

    @property
    def _severities(self) -> list[int]:
        return sorted({severity for _, severity in self.conditions})


def parse_selection(dataset: str, argument: str) -> Selection:
    """Read `[CORRUPTION][@SEVERITY][,...][:generated[=PATH]]`.

    A missing corruption stands for all 15, a missing severity for all 5.

    Raises:
        UserError: a corruption, a severity or a word after the colon is not known.
    """
    if argument.partition("=")[0] == "generated":
        chosen, source = "", argument
    else:
        chosen, _, source = argument.partition(":")
    word, _, clean = source.partition("=")
    if source and word != "generated":
        raise unknown("source of corruptions", word, ["generated"], hint=f"{dataset}:{argument}")
    conditions = {condition for item in chosen.split(",") for condition in _conditions(item)}
    if chosen and "" in chosen.split(","):
        raise UserError(f"{dataset}:{argument}: nothing stands beside a comma; remove the comma")
    order = list(SHORT_NAMES)
    ordered = sorted(conditions, key=lambda condition: (order.index(condition[0]), condition[1]))
    return Selection(tuple(ordered), word == "generated", clean)


def _conditions(item: str) -> Iterator[tuple[str, int]]:
    corruption, at, severity = item.strip().partition("@")
    if corruption and corruption not in SHORT_NAMES:
        raise unknown("corruption", corruption, SHORT_NAMES)
    if at and severity not in map(str, SEVERITIES):
        raise unknown("severity", severity, map(str, SEVERITIES))
    for name in [corruption] if corruption else SHORT_NAMES:
        for number in [int(severity)] if at else SEVERITIES:
            yield name, number


class CorruptedEntries(Sequence[Entry]):
    """The clean entries under each condition in turn, each made when it is asked for.

    All of ImageNet-C has 3.75 million of them. Keys are `fog/3/` and the clean image's key.
    """

    def __init__(self, selection: Selection, clean: Sequence[Entry]) -> None:
        self.clean = clean
        self._conditions = selection.conditions
        self._groups = selection.groups

    def locate(self, index: int) -> tuple[str, int, int]:
        """Corruption, severity and index of the clean entry behind entry `index`."""
        condition, place = divmod(range(len(self))[index], len(self.clean))
        return *self._conditions[condition], place

    @override
    def __len__(self) -> int:
        return len(self._conditions) * len(self.clean)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    @override
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        corruption, severity, place = self.locate(index)
        return self._entry(self._conditions.index((corruption, severity)), self.clean[place])

    @override
    def __iter__(self) -> Iterator[Entry]:
        for condition in range(len(self._conditions)):
            for entry in self.clean:
                yield self._entry(condition, entry)

    def _entry(self, condition: int, clean: Entry) -> Entry:
        corruption, severity = self._conditions[condition]
        key = f"{corruption}/{severity}/{clean.key}"
        return Entry(key, self._groups[condition], clean.label)


def generator_version() -> str:
    """The version of the package that makes the corruptions.

    Raises:
        UserError: it is not installed.
    """
    _generator()
    return metadata.version(PACKAGE)


def corrupt(image: np.ndarray, corruption: str, severity: int, key: str) -> np.ndarray:
    """One image uint8 `[height, width, 3]` under one corruption, of the same shape.

    A function of its arguments alone: the seed is a hash of corruption, severity and `key`, the
    image's key, and the global generator is left as it was found. The strengths are those that
    ImageNet-C uses on 224-pixel photographs, whatever the image's size. Other releases of numpy,
    scipy, scikit-image or OpenCV may round single pixels otherwise.

    Raises:
        UserError: the package that makes the corruptions is not installed.
    """
    name = f"{corruption}\0{severity}\0{key}".encode()
    seed = int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "little")
    # These two draw from a generator of their own.
    own = {"seed": seed} if corruption in ("impulse_noise", "glass_blur") else {}
    with _global_seed(seed):
        return _generator().corrupt(image, severity=severity, corruption_name=corruption, **own)


# The package draws from numpy's global generator, which the threads of a process share.
_LOCK = Lock()


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    with _LOCK:
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)


def _generator() -> Any:
    try:
        return import_module("imagecorruptions")
    except ImportError as error:
        raise UserError(
            f"generated corruptions need a package that is not there ({error}); "
            "pip install 'ttt-bench[corruptions]'"
        ) from error
