"""Unpacking one archive: into a folder of its own beside the target, then there in one step."""

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import Archive

# What reading a damaged, cut off or encrypted archive raises.
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,
)
# Images hardly shrink in an archive: what grows by more than this, or holds more files than any
# dataset, is made to fill a disk. Small archives may grow to the number of bytes.
GROWTH = 20
SMALL = 100_000_000
MOST_MEMBERS = 5_000_000


class RefusedArchiveError(UserError):
    """An archive that is damaged or would write where it must not: useless however often tried."""


def unpack(file: Path, archive: Archive, root: Path) -> None:
    """Unpack a tar or zip file into `root / archive.folder`.

    No name in it may be absolute or hold `..`, and there may be no symbolic link, no hard link that
    leads out and no device. It may not grow beyond all measure, as the sizes in it say, which
    nothing that is written exceeds. Nothing is at its place before all of it is.

    Raises:
        RefusedArchiveError: the archive is damaged, holds such a thing, or not `archive.inner`.
        UserError: something of that name is there already, or the disk is full.
    """
    target = root / archive.folder
    place = target if target.is_dir() else target.parent
    was_there = place.is_dir()
    place.mkdir(parents=True, exist_ok=True)
    # On the disk of the target, which may be a link to another one, so that moving is renaming.
    temporary = place / f".unpacking-{file.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _extract(file, archive.inner, temporary)
        inner = temporary / archive.inner
        if not inner.is_dir():
            raise RefusedArchiveError(f"{file}: holds no folder {archive.inner}")
        _move(inner, target)
    except DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise RefusedArchiveError(f"{file}: refused, not a sound archive ({reason})") from error
    except OSError as error:
        raise UserError(f"{file}: not unpacked into {target} ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not was_there and not any(place.iterdir()):
            place.rmdir()


def _extract(file: Path, inner: str, to: Path) -> None:
    """Unpack what is in the folder `inner` of an archive."""
    measure = _Measure(file)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as opened:
            members = opened.infolist()
            for member in members:
                linked = stat.S_ISLNK(member.external_attr >> 16)
                # The name as it is stored; zipfile cuts it at a NUL.
                _check(file, member.orig_filename, linked)
                measure.add(member.file_size)
            for member in members:
                if _within(member.filename, inner):
                    opened.extract(member, to)
        return
    if not hasattr(tarfile, "data_filter"):
        raise UserError("unpacking a tar file safely needs Python 3.11.4 or newer")

    def chosen(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        _check(file, member.name, member.issym())
        measure.add(member.size)
        return tarfile.data_filter(member, path) if _within(member.name, inner) else None

    with tarfile.open(file) as opened:
        opened.extractall(str(to), filter=chosen)


class _Measure:
    """Adds up what an archive unpacks to, and refuses it at the member that is too much."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._most = max(GROWTH * file.stat().st_size, SMALL)
        self._bytes = self._members = 0

    def add(self, size: int) -> None:
        """Count one member.

        Raises:
            RefusedArchiveError: it makes too many members or bytes.
        """
        self._bytes += size
        self._members += 1
        if self._bytes > self._most or self._members > MOST_MEMBERS:
            raise RefusedArchiveError(
                f"{self._file}: refused, it unpacks to more than {self._most} bytes or "
                f"{MOST_MEMBERS} files"
            )


def _check(file: Path, name: str, linked: bool) -> None:
    path = PurePosixPath(name)
    # Backslashes and drives would count on Windows.
    elsewhere = path.is_absolute() or "\\" in name or PureWindowsPath(name).drive
    if elsewhere or ".." in path.parts:
        raise RefusedArchiveError(f"{file}: refused, the path {name!r} in it leaves the folder")
    if any(character < " " or character == "\x7f" for character in name):
        raise RefusedArchiveError(f"{file}: refused, the path {name!r} in it is no plain file name")
    if linked:
        raise RefusedArchiveError(f"{file}: refused, {name!r} in it is a symbolic link")


def _within(name: str, inner: str) -> bool:
    return PurePosixPath(name).is_relative_to(inner)


def _move(source: Path, target: Path) -> None:
    """Put a folder, or where the target is there what is in the folder, at its place."""
    if not target.exists():
        os.replace(source, target)
        return
    taken = sorted(path.name for path in source.iterdir() if (target / path.name).exists())
    if taken:
        raise UserError(f"{target / taken[0]}: is there already; move it away to have it unpacked")
    for path in source.iterdir():
        os.replace(path, target / path.name)
