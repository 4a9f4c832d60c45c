"""The feature cache as a whole: what lies in it, and clearing it."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttt_bench.cache.store import cache_folder


@dataclass(frozen=True)
class CacheFile:
    """One file of the cache.

    Attributes:
        path: the file.
        size: in bytes.
        used: when it was last used, in seconds since 1970.
        entries: how many results are in it; None for a file that cannot be read.
        key: what its results depend on; empty for a file that cannot be read.
    """

    path: Path
    size: int
    used: float
    entries: int | None
    key: Mapping[str, Any]

    @property
    def dataset(self) -> str:
        """The dataset of the images, "" where they may be of any."""
        return str(self.key.get("dataset", ""))

    @property
    def backbone(self) -> str:
        """The backbone, with its precision where that is not float32."""
        name, precision = str(self.key.get("backbone", "")), self.key.get("precision", "fp32")
        return name if precision == "fp32" else f"{name} {precision}"

    @property
    def content(self) -> str:
        """The view set, or what else the results are."""
        if self.entries is None:
            return "unreadable"
        if "digests" in self.key:
            return "digests of images"
        if "made" in self.key:
            return str(self.key["made"])
        view_set = self.key.get("view_set")
        if not view_set:
            return "image features"
        recipe = {name: value for name, value in view_set.items() if name != "views"}
        fields = ", ".join(f"{name}={value}" for name, value in recipe.items())
        return f"{view_set['views']}({fields})"


def inventory() -> list[CacheFile]:
    """Return every file of the cache, the one used last first."""
    files: list[CacheFile] = []
    for path in cache_folder().glob("*.sqlite"):
        with suppress(FileNotFoundError):
            status = path.stat()
            files.append(CacheFile(path, status.st_size, status.st_mtime, *_contents(path)))
    return sorted(files, key=lambda file: -file.used)


def clear(files: list[CacheFile]) -> int:
    """Remove files of the cache, and return how many bytes they had."""
    for file in files:
        file.path.unlink(missing_ok=True)
    return sum(file.size for file in files)


def _contents(path: Path) -> tuple[int | None, dict[str, Any]]:
    """Return the number of entries of a file, and its key."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            (entries,) = database.execute("SELECT COUNT(*) FROM entries").fetchone()
            row = database.execute("SELECT key FROM about").fetchone()
        key = json.loads(row[0])
    except (sqlite3.Error, TypeError, ValueError):
        return None, {}
    return (entries, key) if isinstance(key, dict) else (None, {})
