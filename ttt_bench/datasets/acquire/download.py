"""Downloading a dataset: each of its archives fetched, unpacked, and not fetched again."""

import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import Archive, MissingDataError, OnDisk, data_roots, find_folder
from ttt_bench.datasets.acquire.fetch import Progress, fetch, part_size
from ttt_bench.datasets.acquire.unpack import RefusedArchiveError, unpack

# Opens a display for a file of that name.
Display = Callable[[str], AbstractContextManager[Progress]]

# Folder of a data root where archives lie until they are unpacked.
DOWNLOADS = ".downloads"


def download(
    name: str, dataset: type[OnDisk], data_root: Path | None, display: Display
) -> tuple[Path, int]:
    """Fetch and unpack the archives of a dataset that are not there yet.

    Args:
        name: of the dataset, for messages.
        dataset: its class.
        data_root: where to look for it, and where it goes if it is nowhere.
        display: shows how far a file is.

    Returns:
        Its folder, and how many archives were fetched.

    Raises:
        UserError: the disk is too small, or an archive cannot be had or is refused; what is
            complete stays.
    """
    try:
        root = find_folder(name, dataset.folders, data_root)
    except MissingDataError:
        root = data_roots(data_root)[0] / dataset.folders[0]
    # Its folder may be a link to a larger disk.
    downloads = root.resolve().parent / DOWNLOADS
    files = {
        archive: downloads / f"{name.partition(':')[0]}-{_file_name(archive)}"
        for archive in dataset.acquisition.archives
        if not _is_unpacked(archive, root)
    }
    if files:
        _check_space(name, dataset, files)
    try:
        for archive, file in files.items():
            _get(archive, file, root, display)
    finally:
        if downloads.is_dir() and not any(downloads.iterdir()):
            downloads.rmdir()
    return root, len(files)


def _get(archive: Archive, file: Path, root: Path, display: Display) -> None:
    """Fetch one archive to `file`, unpack it and remove it."""
    with display(_file_name(archive)) as progress:
        fetch(archive, file, progress)
    print(f"{_file_name(archive)}: unpacking into {root}", file=sys.stderr, flush=True)
    try:
        unpack(file, archive, root)
    except RefusedArchiveError:
        file.unlink()
        raise
    # Where the archive has no folder of its own, nothing else tells that it was unpacked.
    if not archive.folder:
        _note(archive, root).touch()
    file.unlink()


def _check_space(name: str, dataset: type[OnDisk], files: Mapping[Archive, Path]) -> None:
    """Make the folder of the downloads and refuse where not all of it would find room."""
    folder = next(iter(files.values())).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        raise UserError(
            f"{name}: cannot be put into {folder} ({error.strerror}); --data-root names another "
            f"place"
        ) from error
    share = sum(a.size for a in files) / sum(a.size for a in dataset.acquisition.archives)
    # An archive is removed once it is unpacked, so the largest one counts, less what is here.
    largest = max(archive.size for archive in files)
    here = sum(part_size(file) for file in files.values())
    needed = dataset.acquisition.gigabytes * share + max(largest - here, 0) / 1e9
    if free < needed:
        raise UserError(
            f"{name}: needs about {needed:.1f} GB, {free:.1f} GB are free in {folder}; "
            f"--data-root names another place"
        )


def _is_unpacked(archive: Archive, root: Path) -> bool:
    """Whether an archive needs no fetching: its folder is there, or a note that it was unpacked."""
    target = root / archive.folder
    filled = bool(archive.folder) and target.is_dir() and any(target.iterdir())
    return filled or _note(archive, root).exists()


def _note(archive: Archive, root: Path) -> Path:
    return root / f".{_file_name(archive)}.unpacked"


def _file_name(archive: Archive) -> str:
    return urlsplit(archive.url).path.rpartition("/")[2]
