"""Store: results on disk that are made once and shared by methods, runs and processes.

Every key (all that its results depend on) has an SQLite file of its own. SQLite makes several
processes safe; its plain rollback journal, one connection for each call and no syncing leave no
second file behind, no connection open over a fork, and work on the network file systems that homes
are often on. Entries that a crash has damaged do not fit their hashes and are made again.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from ttt_bench.api.errors import UserError, described
from ttt_bench.api.text import plain
from ttt_bench.runs.card import digest

# The share of the disk that the cache may take, of what is free and what it has already.
SHARE = 0.1
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
LIMIT_VARIABLE = "TTT_BENCH_CACHE_LIMIT"
# Seconds to wait for another process that writes.
PATIENCE = 2.0
# Names in one query; SQLite takes 999 in old versions.
NAMES = 500
# Files that this process does without, after one that was locked or could not be written.
_given_up: set[Path] = set()
TABLES = (
    "CREATE TABLE IF NOT EXISTS entries "
    "(name TEXT PRIMARY KEY, value BLOB, seconds REAL, digest BLOB)",
    "CREATE TABLE IF NOT EXISTS about (key TEXT)",
)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Stored:
    """One result.

    Attributes:
        value: its bytes.
        seconds: what making it took.
    """

    value: bytes
    seconds: float


class Store:
    """The results of one key, by name.

    Nothing that goes wrong here fails a run: the store says so in one line on standard error, once,
    and is off from then on.
    """

    def __init__(self, key: Mapping[str, Any], limit: int | None = None) -> None:
        """Use the file of a key; it appears with the first result.

        Args:
            key: everything that a result depends on besides its name, as plain JSON.
            limit: bytes that all files may take together, None for `cache_limit()`. The files that
                were unused longest go first.
        """
        self.key = dict(key)
        self._digest = digest(self.key)
        self.path = cache_folder() / f"{self._digest[:32]}.sqlite"
        self._limit = limit

    def read(self, names: Sequence[str]) -> dict[str, Stored]:
        """Return those of the named results that are kept and undamaged."""

        def select(database: sqlite3.Connection) -> dict[str, Stored]:
            os.utime(self.path)
            rows = {row[0]: row[1:] for row in _rows(database, "value, seconds, digest", names)}
            return {
                name: Stored(*rows[name][:2])
                for name in names
                if name in rows and rows[name][2] == self._hash(name, *rows[name][:2])
            }

        return self._attempt(select, {}) if names and self.path.exists() else {}

    def has(self, names: Sequence[str]) -> set[str]:
        """Return those of the names that are kept, damaged or not."""

        def select(database: sqlite3.Connection) -> set[str]:
            return {name for (name,) in _rows(database, "", names)}

        return self._attempt(select, set()) if names and self.path.exists() else set()

    def write(self, results: Mapping[str, Stored]) -> None:
        """Add results, and remove what passes the limit."""

        def insert(database: sqlite3.Connection) -> None:
            rows = [
                (name, one.value, one.seconds, self._hash(name, one.value, one.seconds))
                for name, one in results.items()
            ]
            with database:
                if database.execute("SELECT COUNT(*) FROM about").fetchone() == (0,):
                    database.execute("INSERT INTO about VALUES (?)", (json.dumps(self.key),))
                database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)

        size = sum(len(one.value) for one in results.values())
        if results and self._make_room(size):
            self._attempt(insert, None)

    def clear(self) -> None:
        """Forget the results of this key."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            self._give_up(error)

    def _hash(self, name: str, value: bytes, seconds: float) -> bytes:
        text = f"{self._digest}\0{name}\0{seconds!r}\0".encode()
        return hashlib.blake2b(text + value, digest_size=16).digest()

    def _attempt(
        self, work: Callable[[sqlite3.Connection], ResultT], otherwise: ResultT
    ) -> ResultT:
        if self.path in _given_up:
            return otherwise
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=PATIENCE)) as database:
                database.execute("PRAGMA synchronous = OFF")
                for table in TABLES:
                    database.execute(table)
                return work(database)
        except (OSError, sqlite3.OperationalError) as error:
            self._give_up(error)
        # The file is damaged, or was never one of ours.
        except (sqlite3.DatabaseError, TypeError, ValueError):
            self.clear()
        return otherwise

    def _make_room(self, more: int) -> bool:
        """Keep all files within the limit; whether this one may grow by so many bytes."""
        sizes = {}
        with suppress(OSError):
            for path in self.path.parent.glob("*.sqlite"):
                with suppress(FileNotFoundError):
                    sizes[path] = path.stat()
        total = more + sum(stat.st_size for stat in sizes.values())
        limit = cache_limit() if self._limit is None else self._limit
        for path, stat in sorted(sizes.items(), key=lambda item: item[1].st_mtime):
            if total > limit and path != self.path:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    total -= stat.st_size
        return total <= limit

    def _give_up(self, error: Exception) -> None:
        if self.path not in _given_up:
            reason = plain(described(error))
            print(f"feature cache {self.path}: {reason}; going on without it", file=sys.stderr)
        _given_up.add(self.path)


def _rows(database: sqlite3.Connection, columns: str, names: Sequence[str]) -> list[Any]:
    """Return the name and these columns of the named entries."""
    rows = []
    for start in range(0, len(names), NAMES):
        part = list(names[start : start + NAMES])
        wanted = f"SELECT name{', ' if columns else ''}{columns} FROM entries WHERE name IN "
        rows += database.execute(f"{wanted}({', '.join('?' * len(part))})", part).fetchall()
    return rows


def cache_folder() -> Path:
    """Return `features` under TTT_BENCH_CACHE, or under the user's folder for caches."""
    chosen = os.environ.get("TTT_BENCH_CACHE")
    return (Path(chosen) if chosen else platformdirs.user_cache_path("ttt-bench")) / "features"


def cache_limit() -> int:
    """Return the bytes that all files may take together.

    They are TTT_BENCH_CACHE_LIMIT, such as `20GB`, or a tenth of the disk's free space, with what
    the cache has taken already.

    Raises:
        UserError: the variable is no size.
    """
    chosen = os.environ.get(LIMIT_VARIABLE, "").strip()
    if chosen:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", chosen, re.IGNORECASE)
        if match is None:
            raise UserError(f"{LIMIT_VARIABLE}={chosen} is no size; write one such as 20GB or 500M")
        return int(float(match[1]) * UNITS[match[2].upper()])
    folder = cache_folder()
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    taken = 0
    for path in folder.glob("*.sqlite"):
        with suppress(OSError):
            taken += path.stat().st_size
    return int(SHARE * (shutil.disk_usage(existing).free + taken))
