"""CIFAR-10 and CIFAR-10-C, from their authors' files."""

import hashlib
import pickle
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from typing_extensions import override

from ttt_bench.api.dataset import Entry
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import OnDisk, find_folder
from ttt_bench.api.regular_files import require_regular
from ttt_bench.datasets.corruptions import CorruptedEntries, corrupt, parse_selection
from ttt_bench.datasets.facts import cifar as facts

# Images in each of CIFAR-10's six files, and of each severity in CIFAR-10-C's.
BATCH = 10_000
# One of so many images of CIFAR-10-C enters the revision with its pixels; all have 2.3 GB.
REVISION_EVERY = 100
# Bytes; CIFAR-10-C's files have 154 million.
LARGEST_FILE = 1 << 30


class Cifar10(OnDisk):
    """CIFAR-10: 10,000 test images of 32 x 32 pixels, and 50,000 for training.

    Read from the binary version (`cifar-10-batches-bin`) or the Python version
    (`cifar-10-batches-py`), which hold the same images in the same order. Class names and templates
    are those that CLIP's authors published.

    Raises:
        UserError: a file is missing or does not hold 10,000 images.
    """

    spec = facts.CIFAR10
    classes = facts.CIFAR10_CLASSES

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = self.spec.name
        self.root = find_folder(self.name, self.spec.folders, data_root)
        self._test_file = test_file(self.root)
        self._images, self._labels = read_batch(self._test_file)
        self.entries = _entries("test", self._labels)
        suffix = self._test_file.suffix
        files = [self._test_file.with_name(f"data_batch_{i}{suffix}") for i in range(1, 6)]
        images, labels = zip(*map(read_batch, files), strict=True)
        self._training_images = images
        self.training = _entries("train", np.concatenate(labels))

    @override
    def path(self, index: int) -> Path:
        return self._test_file

    @override
    def open(self, index: int) -> Image.Image:
        return Image.fromarray(self._images[index])

    @override
    def open_training(self, index: int) -> Image.Image:
        batch, row = divmod(index, BATCH)
        return Image.fromarray(self._training_images[batch][row])

    @override
    def card(self) -> dict[str, Any]:
        return {"revision": _digest(self._images, self._labels), "corruption_source": None}

    @override
    def expected_counts(self) -> Mapping[str, int]:
        return dict.fromkeys(self.classes.names, BATCH // len(self.classes.names))

    @override
    def actual_counts(self) -> Mapping[str, int]:
        return Counter(self.classes.names[entry.label] for entry in self.entries)


class Cifar10C(OnDisk):
    """`cifar10-c:[CORRUPTION][@SEVERITY][,...][:generated]`; without a choice all 75 conditions.

    The official files are `<corruption>.npy`, uint8 `[50000, 32, 32, 3]` with the severities one
    after another, and `labels.npy`. With `:generated` the images are made, each when it is opened,
    from CIFAR-10's test images, with the strengths that ImageNet-C uses on far larger images: they
    are harsher than CIFAR-10-C's own, and the card says which a run has seen.

    Raises:
        UserError: a file is missing or does not fit, the argument cannot be read, or the package
            that generates is not installed.
    """

    spec = facts.CIFAR10_C
    classes = facts.CIFAR10_CLASSES

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = f"cifar10-c:{argument}" if argument else "cifar10-c"
        self._selection = parse_selection("cifar10-c", argument)
        self._source = self._selection.source
        if self._selection.clean:
            raise UserError(f"{self.name}: takes no path; put CIFAR-10's folder in the data root")
        if self._selection.generated:
            self.root = find_folder(Cifar10.spec.name, Cifar10.spec.folders, data_root)
            self._test_file = test_file(self.root)
            self._clean, labels = read_batch(self._test_file)
        else:
            root = find_folder(self.spec.name, self.spec.folders, data_root)
            self.root = root / "CIFAR-10-C" if (root / "CIFAR-10-C").is_dir() else root
            labels = self._read_official()
        self._corrupted = CorruptedEntries(self._selection, _entries("test", labels))
        self.entries = self._corrupted

    def _read_official(self) -> np.ndarray:
        labels = _load(self.root / "labels.npy", (5 * BATCH,))
        if (labels.reshape(5, BATCH) != labels[:BATCH]).any() or not _are_labels(labels):
            raise UserError(f"{self.root / 'labels.npy'}: not CIFAR-10-C's labels; unpack it again")
        self._official = {
            corruption: _load(self.root / f"{corruption}.npy", (5 * BATCH, 32, 32, 3))
            for corruption, _ in self._selection.conditions
        }
        return np.array(labels[:BATCH])

    @override
    def path(self, index: int) -> Path:
        if self._selection.generated:
            return self._test_file
        return self.root / f"{self._corrupted.locate(index)[0]}.npy"

    @override
    def open(self, index: int) -> Image.Image:
        corruption, severity, row = self._corrupted.locate(index)
        if self._selection.generated:
            key = self._corrupted.clean[row].key
            return Image.fromarray(corrupt(self._clean[row], corruption, severity, key))
        return Image.fromarray(self._official[corruption][(severity - 1) * BATCH + row])

    @override
    def card(self) -> dict[str, Any]:
        labels = np.array([entry.label for entry in self._corrupted.clean])
        if self._selection.generated:
            revision = _digest(self._clean, labels)
        else:
            samples = [images[::REVISION_EVERY] for images in self._official.values()]
            revision = _digest(np.concatenate(samples), labels)
        return {"revision": revision, "corruption_source": self._source}


def test_file(root: Path) -> Path:
    """Return the file of the test images, of the binary version before the Python version.

    Raises:
        UserError: there is none.
    """
    for folder in (root, root / "cifar-10-batches-bin", root / "cifar-10-batches-py"):
        for name in ("test_batch.bin", "test_batch"):
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"cifar10: no test_batch.bin or test_batch in {root}; unpack CIFAR-10 there")


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 `[10000, 32, 32, 3]` and labels int64 `[10000]` of a file of CIFAR-10.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    if path.exists():
        require_regular(path, LARGEST_FILE)
    try:
        if path.suffix == ".bin":
            rows = np.fromfile(path, np.uint8).reshape(BATCH, 1 + 3 * 32 * 32)
            labels, pixels = rows[:, 0], rows[:, 1:]
        else:
            with path.open("rb") as file:
                batch = _ArraysOnly(file, encoding="latin1").load()
            labels, pixels = np.array(batch["labels"], np.uint8), batch["data"]
        images = pixels.reshape(BATCH, 3, 32, 32).transpose(0, 2, 3, 1)  # (n, 32, 32, 3)
        if labels.shape != (BATCH,) or images.dtype != np.uint8 or not _are_labels(labels):
            raise ValueError("labels or pixels do not fit")
    except Exception as error:  # A damaged pickle can raise anything.
        raise UserError(
            f"{path}: not {BATCH} images of CIFAR-10 ({error}); unpack it again"
        ) from error
    return np.ascontiguousarray(images), labels.astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler of plain values and arrays; a pickle that names any other code is refused."""

    # Python 2 and numpy 1 wrote the first name, numpy 2 writes the second.
    allowed: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    @override
    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self.allowed:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")
        return self.allowed[module_name, global_name]


def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if path.exists():
        require_regular(path, LARGEST_FILE)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error}); unpack CIFAR-10-C again") from error
    if array.shape != shape or array.dtype.kind not in "iu":
        raise UserError(
            f"{path}: {array.dtype} {list(array.shape)}, whole numbers {list(shape)} expected; "
            "unpack CIFAR-10-C again"
        )
    return array


def _are_labels(labels: np.ndarray) -> bool:
    return bool(((labels >= 0) & (labels < len(facts.CIFAR10_CLASSES))).all())


def _entries(split: str, labels: np.ndarray) -> list[Entry]:
    return [Entry(f"{split}/{i:05d}", None, label) for i, label in enumerate(labels.tolist())]


def _digest(images: np.ndarray, labels: np.ndarray) -> str:
    digest = hashlib.sha256(images.tobytes())
    digest.update(labels.astype(np.int64).tobytes())
    return digest.hexdigest()
