"""The zip file of exported runs, whose directory is checked before anything in it is read.

Nothing is unpacked to disk, and no name in the file is used as a path.
"""

import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.regular_files import require_regular
from ttt_bench.runs.folder import COST_FILE, MANIFEST_FILE, SUMMARY_FILE

RECORDS_FILE = "records.parquet"
FILES = (MANIFEST_FILE, COST_FILE, SUMMARY_FILE, RECORDS_FILE)
# Only runs of some online methods have it.
REVISITED_FILE = "revisited.parquet"
EVERY_FILE = (*FILES, REVISITED_FILE)

# A run's key, with a number behind it where two runs of one card are in the file.
RUN_NAME = re.compile(r"[0-9a-f]{10}(-[1-9][0-9]{0,3})?")
MEMBER_NAME = re.compile(rf"({RUN_NAME.pattern})/({'|'.join(map(re.escape, EVERY_FILE))})")
MOST_RUNS = 1000
# Bytes of the whole file, and of what is in it once inflated.
LARGEST_EXPORT = 2_000_000_000
LARGEST_INFLATED = 4_000_000_000
LARGEST_JSON = 16_000_000
LARGEST_RECORDS = 1_000_000_000
# The directory of a zip file: its end record without a comment, and the bytes of one entry.
END_SIZE = 22
LOCATOR_SIZE = 20
LARGEST_ENTRY = 160
ADVICE = "ask for the file again, or export the runs again"


@contextmanager
def opened_export(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open an exported file whose directory was checked before anything in it is read.

    Raises:
        UserError: it is no export, or what it holds is too large.
    """
    require_regular(file, LARGEST_EXPORT)
    try:
        with file.open("rb") as content:
            _require_small_directory(content)
            with zipfile.ZipFile(content) as archive:
                require_export(archive.infolist())
                yield archive
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{file}: is not what `ttt-bench export` writes ({first_line(error)}); {ADVICE}"
        ) from error


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the content of a file in an open export, at most of the size that it declares."""
    entry = archive.getinfo(name)
    # Read without a bound, a file that understates its size would be inflated whole.
    with archive.open(entry) as member:
        return member.read(entry.file_size + 1)


def _require_small_directory(content: BinaryIO) -> None:
    """Refuse a directory that would fill the memory when it is read.

    Raises:
        ValueError: it is too large, or no end of a zip file is where an export has it.
    """
    size = content.seek(0, 2)
    content.seek(max(0, size - END_SIZE - LOCATOR_SIZE))
    tail = content.read()
    end = tail[-END_SIZE:]
    if len(end) < END_SIZE or end[:4] != b"PK\5\6" or end[-2:] != b"\0\0":
        raise ValueError("it does not end as a zip file")
    # The locator of the 64-bit form, whose directory can have any size.
    if tail[:4] == b"PK\6\7" and len(tail) == END_SIZE + LOCATOR_SIZE:
        raise ValueError("it is a zip file of the 64-bit form")
    if int.from_bytes(end[12:16], "little") > MOST_RUNS * len(EVERY_FILE) * LARGEST_ENTRY:
        raise ValueError("it holds too many files")
    content.seek(0)


def require_export(entries: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse a directory that lists anything but the files of runs, once each and bounded.

    Raises:
        ValueError: it does; the message says what.
    """
    files: dict[str, set[str]] = {}
    inflated = 0
    for entry in entries:
        # A name is cut at its first NUL; the original one is what has to fit.
        match = MEMBER_NAME.fullmatch(entry.orig_filename)
        if match is None or entry.filename != entry.orig_filename:
            raise ValueError(f"unknown file {entry.orig_filename[:80]!r}")
        run, name = match.group(1), match.group(3)
        if name in files.setdefault(run, set()):
            raise ValueError(f"{entry.filename} is in it twice")
        files[run].add(name)
        if entry.flag_bits & 1 or entry.compress_type not in (0, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{entry.filename} is packed in another way")
        largest = LARGEST_RECORDS if name.endswith(".parquet") else LARGEST_JSON
        if entry.file_size > largest:
            raise ValueError(f"{entry.filename} inflates to {entry.file_size:,} bytes")
        inflated += entry.file_size
    if not files:
        raise ValueError("it holds no run")
    if inflated > LARGEST_INFLATED:
        raise ValueError(f"it inflates to {inflated:,} bytes")
    for run, names in files.items():
        if missing := sorted({*FILES} - names):
            raise ValueError(f"{run}/{missing[0]} is missing")
