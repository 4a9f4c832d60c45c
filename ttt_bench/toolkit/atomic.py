"""Files that appear whole or not at all."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path, exclusive: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; on success it replaces `path` at once and for good.

    A kill or a power cut at any moment leaves the old file or the new one, whole. The temporary
    file is beside the target, starts with a dot and ends with `.tmp`.

    Args:
        path: the file to write or replace; its folder is made where it is missing.

    Example:
        with atomic_write(folder / "options.json") as temporary:
            temporary.write_text(json.dumps(options))

    Args:
        path: the file to write.
        exclusive: whether the file may not be there yet, not even from another process.

    Raises:
        FileExistsError: the file is there, where it may not be.
        OSError: the disk is full or the folder cannot be written to.
    """
    # Processes of several machines may write to one folder.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if exclusive:
            _link(temporary, path)
        else:
            temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Give a file its name, unless another file has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    # Some file systems have no hard links.
    except OSError:
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a power cut; Windows keeps no handles of folders."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
