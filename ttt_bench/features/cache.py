"""FeatureCache: image features of frozen backbones on disk, shared by methods and runs.

Every key (a backbone with its weights and transform, a dataset, what computes) has an SQLite file
of its own. SQLite makes several processes safe; its plain rollback journal, one connection for
each call and no syncing leave no second file behind, no connection open over a fork, and work on
the network file systems that homes are often on. Entries that a crash has damaged do not fit their
hashes and are computed again.
"""

import hashlib
import os
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import platformdirs
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ttt_bench.api.backbone import Backbone
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import described
from ttt_bench.api.text import plain
from ttt_bench.runs.card import digest
from ttt_bench.runs.environment import device_name

BOUND = 2_000_000_000
# Seconds to wait for another process that writes.
PATIENCE = 2.0
# Files that this process does without, after one that was locked or could not be written.
_given_up: set[Path] = set()
TABLE = (
    "CREATE TABLE IF NOT EXISTS features "
    "(name TEXT PRIMARY KEY, feature BLOB, seconds REAL, digest BLOB)"
)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Feature:
    """One image's feature.

    Attributes:
        values: `[dim]`, on the CPU.
        seconds: what computing it took, transform included.
    """

    values: Float[Tensor, " dim"]
    seconds: float


class FeatureCache:
    """The features of one key, by the names of their images (`image_name`).

    Nothing that goes wrong here fails a run: the cache says so in one line on standard error, once,
    and is off from then on.
    """

    def __init__(self, key: Mapping[str, Any], bound: int = BOUND) -> None:
        """Use the file of a key; it appears with the first feature.

        Args:
            key: everything that a feature depends on besides the image, as plain JSON.
            bound: bytes that all files may take together; the least recently used ones go first.
        """
        self._key = digest(key)
        self.path = cache_folder() / f"{self._key[:32]}.sqlite"
        self.bound = bound

    def read(self, names: Sequence[str]) -> dict[str, Feature]:
        """Return those of the named features that are kept and undamaged."""

        def select(database: sqlite3.Connection) -> dict[str, Feature]:
            os.utime(self.path)
            query = "SELECT feature, seconds, digest FROM features WHERE name = ?"
            rows = {name: database.execute(query, (name,)).fetchone() for name in names}
            return {
                name: Feature(torch.from_numpy(np.frombuffer(row[0], np.float32).copy()), row[1])
                for name, row in rows.items()
                if row is not None and row[2] == self._digest(name, row[0], row[1])
            }

        return self._attempt(select, {}) if self.path.exists() else {}

    def write(self, features: Mapping[str, Feature]) -> None:
        """Add features in float32, the only ones kept, and remove what passes the bound."""

        def insert(database: sqlite3.Connection) -> None:
            rows = []
            for name, feature in features.items():
                if feature.values.dtype == torch.float32:
                    blob, seconds = feature.values.numpy().tobytes(), feature.seconds
                    rows.append((name, blob, seconds, self._digest(name, blob, seconds)))
            with database:
                database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows)

        if self._make_room():
            self._attempt(insert, None)

    def clear(self) -> None:
        """Forget the features of this key."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            self._give_up(error)

    def _digest(self, name: str, blob: bytes, seconds: float) -> bytes:
        text = f"{self._key}\0{name}\0{seconds!r}\0".encode()
        return hashlib.blake2b(text + blob, digest_size=16).digest()

    def _attempt(
        self, work: Callable[[sqlite3.Connection], ResultT], otherwise: ResultT
    ) -> ResultT:
        if self.path in _given_up:
            return otherwise
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as database:
                database.execute("PRAGMA synchronous = OFF")
                database.execute(TABLE)
                return work(database)
        except (OSError, sqlite3.OperationalError) as error:
            self._give_up(error)
        # The file is damaged, or was never one of ours.
        except (sqlite3.DatabaseError, TypeError, ValueError):
            self.clear()
        return otherwise

    def _make_room(self) -> bool:
        """Keep all files within the bound; whether this one may grow."""
        sizes = {}
        with suppress(OSError):
            for path in self.path.parent.glob("*.sqlite"):
                with suppress(FileNotFoundError):
                    sizes[path] = path.stat()
            total = sum(stat.st_size for stat in sizes.values())
            for path, stat in sorted(sizes.items(), key=lambda item: item[1].st_mtime):
                if total > self.bound and path != self.path:
                    path.unlink(missing_ok=True)
                    total -= stat.st_size
        return self.path not in sizes or sizes[self.path].st_size <= self.bound

    def _give_up(self, error: Exception) -> None:
        if self.path not in _given_up:
            reason = plain(described(error))
            print(f"feature cache {self.path}: {reason}; going on without it", file=sys.stderr)
        _given_up.add(self.path)


def cache_folder() -> Path:
    """`features` under TTT_BENCH_CACHE, or under the user's folder for caches."""
    chosen = os.environ.get("TTT_BENCH_CACHE")
    return (Path(chosen) if chosen else platformdirs.user_cache_path("ttt-bench")) / "features"


def image_name(image: Image.Image) -> str:
    """Return a hash of an image's pixels; an edited image has another one."""
    header = f"{image.mode}\0{image.size}\0".encode()
    return hashlib.blake2b(header + image.tobytes(), digest_size=16).hexdigest()


def features_key(name: str, device: str, dataset: Dataset, backbone: Backbone) -> dict[str, Any]:
    """Return what a feature depends on besides its image, as far as names and numbers can say it.

    Args:
        name: the backbone's name.
        device: the device that computes.
        dataset: the dataset of the images.
        backbone: the backbone.
    """
    return {
        "backbone": name,
        **backbone.card(),
        "dataset": dataset.identity,
        "revision": dataset.card(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
