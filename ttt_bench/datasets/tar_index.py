"""The index of a tar archive: where each file's bytes are, from the headers alone."""

import tarfile
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.regular_files import require_regular

LARGEST_ARCHIVE = 1 << 42
# Beginnings of compressed files, in which no byte has a place of its own.
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
READ_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        archive: the archive.
        path: the file's path within it.
        offset: where its bytes begin in the archive.
        size: how many it has.
    """

    archive: Path
    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises:
            OSError: the archive cannot be read, or has become shorter.
        """
        # Opened anew each time: threads and forked processes would share the position in it.
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(f"ends within {self.path}")
        return content


def read_index(archive: Path) -> list[Member]:
    """Return the files of an archive in their order; folders are left out.

    Raises:
        UserError: there is no such file, or it is damaged, compressed, or holds links.
    """
    require_regular(archive, LARGEST_ARCHIVE)
    try:
        with archive.open("rb") as file:
            if (kind := COMPRESSED.get(file.read(2))) is not None:
                raise UserError(
                    f"{archive}: is compressed ({kind}), so images in it cannot be read one by "
                    "one; unpack it to a plain .tar"
                )
            file.seek(0)
            return _read_members(archive, file)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{archive}: not a whole tar archive ({first_line(error)}); write it again"
        ) from error


def _read_members(archive: Path, file: BufferedIOBase) -> list[Member]:
    size = archive.stat().st_size
    members = []
    with tarfile.TarFile(fileobj=file, mode="r") as tar:
        for entry in tar:
            if entry.isdir():
                continue
            if not entry.isreg() or entry.issparse():
                raise UserError(
                    f"{archive}: {entry.name} is a link or no plain file; write the archive again "
                    "with the files themselves"
                )
            if entry.offset_data + entry.size > size:
                raise tarfile.ReadError(f"it ends within {entry.name}")
            members.append(Member(archive, entry.name, entry.offset_data, entry.size))
        end = tar.offset
    # `tarfile` takes some damaged headers for the end, which is zeros.
    file.seek(end)
    while block := file.read(READ_AT_ONCE):
        if block.strip(b"\0"):
            raise tarfile.ReadError(f"something follows its end at byte {end}")
    return members
