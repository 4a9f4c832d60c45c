"""Unpacking one archive: into a temporary folder beside the target, then moved in one step."""

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from ttt_bench.api.acquisition import Archive
from ttt_bench.api.errors import UserError, first_line

# Exceptions that a damaged, truncated or encrypted archive raises.
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,
    # A name that is not in the encoding that the archive states.
    UnicodeError,
)
# Images hardly shrink in an archive. One that grows by more than this, or holds more files than any
# dataset, is made to fill a disk. Small archives may grow to `SMALL` bytes.
GROWTH = 20
SMALL = 100_000_000
MOST_MEMBERS = 5_000_000
# Bytes of the headers of one member of a tar; a long name and its attributes take a few thousand.
MOST_HEADER = 1 << 20
BLOCK = 1 << 18
COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


class RefusedArchiveError(UserError):
    """An archive that is damaged or harmful: useless however often it is fetched."""


def unpack(file: Path, archive: Archive, root: Path) -> None:
    """Unpack a tar or zip file into `root / archive.folder`.

    No name in it may be absolute or hold `..`; symbolic links, hard links to anything but an
    earlier member, and devices are refused. The sizes that it states are bounded, and nothing that
    is written exceeds them. A compressed tar is read to its end, where its checksum is. The target
    appears when everything is unpacked.

    Args:
        file: the archive.
        archive: the folder within it to take, and where to put that.
        root: the dataset's folder.

    Raises:
        RefusedArchiveError: the archive is damaged or harmful, or lacks `archive.inner`.
        UserError: something of that name exists, or the disk is full.
    """
    target = root / archive.folder
    parent = target if target.is_dir() else target.parent
    existed = parent.is_dir()
    parent.mkdir(parents=True, exist_ok=True)
    # On the disk of the target, which may be a link to another one, so that moving is renaming.
    temporary = parent / f".unpacking-{file.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        if zipfile.is_zipfile(file):
            _extract_zip(file, archive.inner, temporary)
        else:
            _extract_tar(file, archive.inner, temporary)
        inner = temporary / archive.inner
        if not inner.is_dir():
            raise RefusedArchiveError(f"{file}: holds no folder {archive.inner}")
        _move(inner, target)
    except DAMAGED as error:
        reason = first_line(error).rstrip(":")
        raise RefusedArchiveError(f"{file}: refused, not a sound archive ({reason})") from error
    except OSError as error:
        # A damaged bzip2 file raises this too, without the system's number.
        kind = RefusedArchiveError if error.errno is None else UserError
        raise kind(f"{file}: not unpacked into {target} ({first_line(error)})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not existed and not any(parent.iterdir()):
            parent.rmdir()


def _extract_zip(file: Path, inner: str, destination: Path) -> None:
    limits = _Limits(file)
    with zipfile.ZipFile(file) as opened:
        members = opened.infolist()
        for member in members:
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            # The name as it is stored; zipfile cuts it at a NUL.
            _require_safe(file, member.orig_filename, is_link)
            limits.count(member.file_size)
        for member in members:
            if _is_within(member.filename, inner):
                opened.extract(member, destination)


def _extract_tar(file: Path, inner: str, destination: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise UserError("unpacking a tar file safely needs Python 3.11.4 or newer")
    limits = _Limits(file)
    with file.open("rb") as raw, _decompressed(raw) as stream:
        headers = _HeaderReader(file, stream)
        # Reading needs no more of a file than this has.
        readable: Any = headers
        with tarfile.open(fileobj=readable, mode="r:") as opened:
            while member := headers.next(opened):
                _require_safe(file, member.name, member.issym())
                limits.count(member.offset_data - member.offset + member.size)
                if _is_within(member.name, inner):
                    if member.islnk() and not (destination / member.linkname).is_file():
                        raise RefusedArchiveError(
                            f"{file}: refused, {member.name!r} in it is a link to "
                            f"{member.linkname!r}, which is no file before it"
                        )
                    opened.extract(member, destination, filter="data")
        if headers.last.strip(b"\0"):
            raise RefusedArchiveError(f"{file}: refused, a header in it is damaged")
        # The checksum of a compressed file comes last.
        while block := stream.read(BLOCK):
            limits.add(len(block))


def _decompressed(raw: IO[bytes]) -> Any:
    """Open the content of a compressed file, or the file itself."""
    start = raw.read(8)
    raw.seek(0)
    for magic, opener in COMPRESSIONS.items():
        if start.startswith(magic):
            return opener(raw)
    return raw


class _HeaderReader:
    """A tar's content as `tarfile` reads it, with a bound on the headers of each member.

    A header states its own length, and `tarfile` reads it as a whole, so a small compressed file
    could fill the memory.

    Attributes:
        last: the bytes read last; zeros or nothing at the end of an undamaged tar.
    """

    last = b""

    def __init__(self, file: Path, stream: Any) -> None:
        self._file = file
        self._stream = stream
        self._left: int | None = MOST_HEADER
        self.seek, self.tell = stream.seek, stream.tell

    def next(self, opened: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Return the next member, and forget those before it."""
        self._left = MOST_HEADER
        try:
            return opened.next()
        finally:
            self._left = None
            opened.members = []  # pyright: ignore[reportAttributeAccessIssue]

    def read(self, size: int = -1) -> bytes:
        """Read from the content.

        Raises:
            RefusedArchiveError: the headers of a member are longer than `MOST_HEADER`.
        """
        if self._left is not None:
            self._left -= size
            if size < 0 or self._left < 0:
                raise RefusedArchiveError(
                    f"{self._file}: refused, the headers of a file in it are longer than "
                    f"{MOST_HEADER} bytes"
                )
        self.last = self._stream.read(size)
        return self.last


class _Limits:
    """The bytes and files that an archive may unpack to."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._most = max(GROWTH * file.stat().st_size, SMALL)
        self._bytes = self._members = 0

    def count(self, size: int) -> None:
        """Count one member of `size` bytes.

        Raises:
            RefusedArchiveError: the members so far are too many or too large.
        """
        self._members += 1
        self.add(size)

    def add(self, size: int) -> None:
        """Add bytes.

        Raises:
            RefusedArchiveError: the members so far are too many or too large.
        """
        self._bytes += size
        if self._bytes > self._most or self._members > MOST_MEMBERS:
            raise RefusedArchiveError(
                f"{self._file}: refused, it unpacks to more than {self._most} bytes or "
                f"{MOST_MEMBERS} files"
            )


def _require_safe(file: Path, name: str, is_link: bool) -> None:
    path = PurePosixPath(name)
    # Backslashes and drives would count on Windows.
    elsewhere = path.is_absolute() or "\\" in name or PureWindowsPath(name).drive
    if elsewhere or ".." in path.parts:
        raise RefusedArchiveError(f"{file}: refused, the path {name!r} in it leaves the folder")
    if any(character < " " or character == "\x7f" for character in name):
        raise RefusedArchiveError(f"{file}: refused, the path {name!r} in it is no plain file name")
    if is_link:
        raise RefusedArchiveError(f"{file}: refused, {name!r} in it is a symbolic link")


def _is_within(name: str, inner: str) -> bool:
    return PurePosixPath(name).is_relative_to(inner)


def _move(source: Path, target: Path) -> None:
    """Move a folder to its target, or its content where the target exists.

    Raises:
        UserError: the target holds something of the same name.
    """
    if not target.exists():
        os.replace(source, target)
        return
    taken = sorted(path.name for path in source.iterdir() if (target / path.name).exists())
    if taken:
        raise UserError(f"{target / taken[0]}: exists already; move it away to have it unpacked")
    for path in source.iterdir():
        os.replace(path, target / path.name)
