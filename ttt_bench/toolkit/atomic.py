"""Files that appear whole or not at all."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it replaces `path` at once and for good.

    A kill or a power cut at any moment leaves the old file or the new one, whole. The temporary
    file is beside the target, starts with a dot and ends with `.tmp`.

    Args:
        path: the file to write or replace; its folder is made where it is missing.

    Example:
        with atomic_write(folder / "options.json") as temporary:
            temporary.write_text(json.dumps(options))

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    # Processes of several machines may write to one folder.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a power cut; Windows keeps no handles of folders."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
