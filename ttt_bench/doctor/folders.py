"""The folders that commands read and write: whether they can, and how much space there is."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ttt_bench.api.errors import described
from ttt_bench.api.on_disk import data_roots


@dataclass(frozen=True)
class Folder:
    """A folder and what can be done with it.

    Attributes:
        purpose: what it is for.
        path: the folder.
        exists: whether it is there; the commands that need it make it.
        writable: whether a file can be made in it, or in the folder in which it would be made.
        reason: why not, "" for a writable one.
        free_gb: space on its disk.
        problem: whether something does not work because of it.
    """

    purpose: str
    path: str
    exists: bool
    writable: bool
    reason: str
    free_gb: float
    problem: bool


def folders(cache: Path, output: Path, data_root: Path | None) -> list[Folder]:
    """Return the state of the folders for features, runs and data.

    Args:
        cache: the feature cache.
        output: the folder of runs.
        data_root: the folder that the user gave to look for datasets in, None for none.
    """
    # Datasets are often on a disk that only their owner may write to.
    data = [folder("data", root, must_write=False) for root in data_roots(data_root)]
    return [folder("feature cache", cache), folder("runs", output), *data]


def folder(purpose: str, path: Path, must_write: bool = True) -> Folder:
    """Return the state of a folder; nothing stays in it.

    Args:
        purpose: what it is for.
        path: the folder.
        must_write: whether not being writable is a problem.
    """
    path = path.absolute()
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    reason = ""
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = error.strerror or described(error)
    blocked = not nearest.is_dir()
    return Folder(
        purpose=purpose,
        path=str(path),
        exists=path.is_dir(),
        writable=not reason,
        reason=f"{nearest} is no folder" if blocked else reason,
        free_gb=shutil.disk_usage(nearest).free / 1e9,
        problem=blocked or (must_write and bool(reason)),
    )
