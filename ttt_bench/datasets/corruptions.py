"""The 15 corruptions of ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261).

Their names, the user's selection of them, its entries, and their generation without the official
files.
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
class CorruptionSelection:
    """The conditions that the part after the colon in `imagenet-c:...` selects.

    Attributes:
        conditions: (corruption, severity), in the order of the tables and then by severity.
        generated: whether the images are made here instead of read from the official files.
        clean: folder of the clean images to make them from, "" to look in the data roots.
    """

    conditions: tuple[tuple[str, int], ...]
    generated: bool
    clean: str

    @property
    def groups(self) -> tuple[str, ...]:
        """Return each condition's group: `fog` where all have one severity, else `fog@3`."""
        if len(self._severities) == 1:
            return tuple(corruption for corruption, _ in self.conditions)
        return tuple(f"{corruption}@{severity}" for corruption, severity in self.conditions)

    @property
    def source(self) -> str:
        """Return the protocol card's words for the source of the corruptions.

        Raises:
            UserError: they are to be generated and the package for that is not installed.
        """
        if not self.generated:
            return OFFICIAL
        word = "severity" if len(self._severities) == 1 else "severities"
        severities = ", ".join(map(str, self._severities))
        return f"generated: {PACKAGE} {generator_version()}, {word} {severities}"

    @property
    def _severities(self) -> list[int]:
        return sorted({severity for _, severity in self.conditions})


def parse_selection(dataset: str, argument: str) -> CorruptionSelection:
    """Read `[CORRUPTION][@SEVERITY][,...][:generated[=PATH]]`.

    A missing corruption stands for all 15, a missing severity for all 5.

    Args:
        dataset: the dataset's name, for messages.
        argument: the part after the first colon.

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
    return CorruptionSelection(parse_conditions(dataset, chosen), word == "generated", clean)


def parse_conditions(
    dataset: str,
    chosen: str,
    severities: Sequence[int] = SEVERITIES,
    available: Sequence[int] = SEVERITIES,
    other_words: Sequence[str] = (),
) -> tuple[tuple[str, int], ...]:
    """Read `[CORRUPTION][@SEVERITY][,...]`.

    A missing corruption stands for all 15.

    Args:
        dataset: the dataset's name, for messages.
        chosen: the conditions that the user has typed.
        severities: the severities for which a missing one stands.
        available: the severities that the dataset has.
        other_words: what the dataset takes in a condition's place, for messages.

    Returns:
        (corruption, severity), each once, in the order of the tables and then by severity.

    Raises:
        UserError: a corruption or a severity is not known.
    """
    items = chosen.split(",")
    name = f"{dataset}:{chosen}"
    conditions = set()
    for item in items:
        corruption, at, severity = item.strip().partition("@")
        if corruption and corruption not in SHORT_NAMES:
            raise unknown("corruption", corruption, [*SHORT_NAMES, *other_words], hint=name)
        if at and severity not in map(str, available):
            raise unknown("severity", severity, map(str, available), hint=name)
        for known in [corruption] if corruption else SHORT_NAMES:
            conditions |= {(known, number) for number in ([int(severity)] if at else severities)}
    if chosen and "" in items:
        raise UserError(f"{name}: a comma has no condition beside it; remove the comma")
    order = list(SHORT_NAMES)
    return tuple(sorted(conditions, key=lambda pair: (order.index(pair[0]), pair[1])))


class CorruptedEntries(Sequence[Entry]):
    """The clean entries under each condition in turn, each entry made on access.

    ImageNet-C has 3.75 million. Keys are `fog/3/` and the clean image's key.
    """

    def __init__(self, selection: CorruptionSelection, clean: Sequence[Entry]) -> None:
        self.clean = clean
        self._conditions = selection.conditions
        self._groups = selection.groups

    def locate(self, index: int) -> tuple[str, int, int]:
        """Return corruption, severity and index of the clean entry of entry `index`."""
        condition, row = divmod(range(len(self))[index], len(self.clean))
        return *self._conditions[condition], row

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
        corruption, severity, row = self.locate(index)
        return self._entry(self._conditions.index((corruption, severity)), self.clean[row])

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
    """Return the version of the package that makes the corruptions.

    Raises:
        UserError: it is not installed, or does not import.
    """
    _generator()
    return metadata.version(PACKAGE)


def corrupt(image: np.ndarray, corruption: str, severity: int, key: str) -> np.ndarray:
    """Return one image under one corruption, depending on the arguments alone.

    The seed is a hash of corruption, severity and key; the global generator stays as it was. The
    strengths are those that ImageNet-C uses on 224-pixel photographs, whatever the image's size.
    Other releases of numpy, scipy, scikit-image or OpenCV may round single pixels otherwise.

    Args:
        image: uint8 `[height, width, 3]`, as the result.
        corruption: one of `SHORT_NAMES`.
        severity: 1 to 5.
        key: the image's key.

    Raises:
        UserError: the package that makes the corruptions is not installed, or does not import.
    """
    name = f"{corruption}\0{severity}\0{key}".encode()
    seed = int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "little")
    # These two draw from a generator of their own.
    options = {"seed": seed} if corruption in ("impulse_noise", "glass_blur") else {}
    with _global_seed(seed):
        return _generator().corrupt(image, severity=severity, corruption_name=corruption, **options)


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
    except ModuleNotFoundError as error:
        raise UserError(
            f"generated corruptions need a package that is not installed ({error}); "
            "pip install 'ttt-bench[corruptions]'"
        ) from error
    except ImportError as error:
        raise UserError(
            f"generated corruptions need OpenCV, which lacks a library of this system ({error}); "
            "pip install --force-reinstall --no-deps opencv-python-headless"
        ) from error
