"""Downloading a dataset: each of its archives fetched and unpacked once."""

import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

from ttt_bench.api.acquisition import Archive, HowToGet
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import MissingDataError, data_roots, find_folder
from ttt_bench.api.specs import DatasetSpec
from ttt_bench.datasets.acquire.fetch import Progress, fetch, part_size
from ttt_bench.datasets.acquire.unpack import RefusedArchiveError, unpack

# Opens a display for a file of that name.
Display = Callable[[str], AbstractContextManager[Progress]]

# Folder of a data root that holds archives until they are unpacked.
DOWNLOADS = ".downloads"


def download(
    name: str, spec: DatasetSpec, data_root: Path | None, display: Display
) -> tuple[Path, int]:
    """Fetch and unpack the archives of a dataset that are not unpacked yet.

    Args:
        name: the dataset's name as typed, for messages.
        spec: the dataset's facts.
        data_root: the folder to look in for the dataset, and to make its folder in.
        display: shows the progress of a file.

    Returns:
        The dataset's folder, and how many archives were fetched.

    Raises:
        UserError: the disk is too small, or an archive cannot be fetched or is refused; archives
            that are complete stay.
    """
    how_to_get = spec.how_to_get or HowToGet(gigabytes=0.0)
    try:
        root = find_folder(name, spec.folders, data_root)
    except MissingDataError:
        root = data_roots(data_root)[0] / spec.folders[0]
    # The dataset's folder may be a link to a larger disk.
    downloads = root.resolve().parent / DOWNLOADS
    files = {
        archive: downloads / f"{spec.name}-{_file_name(archive)}"
        for archive in how_to_get.archives
        if not _is_unpacked(archive, root)
    }
    if files:
        _require_space(name, how_to_get, files)
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
    # For an archive without a folder of its own, nothing else shows that it was unpacked.
    if not archive.folder:
        _marker(archive, root).touch()
    file.unlink()


def _require_space(name: str, how_to_get: HowToGet, files: Mapping[Archive, Path]) -> None:
    """Make the folder of the downloads.

    Raises:
        UserError: it cannot be made, or the disk has no room for everything.
    """
    folder = next(iter(files.values())).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        raise UserError(
            f"{name}: cannot be put into {folder} ({error.strerror}); name another folder with "
            "--data-root"
        ) from error
    share = sum(a.size for a in files) / sum(a.size for a in how_to_get.archives)
    # Archives are removed once they are unpacked, so only the largest needs room beside the data.
    largest = max(archive.size for archive in files)
    fetched = sum(part_size(file) for file in files.values())
    needed = how_to_get.gigabytes * share + max(largest - fetched, 0) / 1e9
    if free < needed:
        raise UserError(
            f"{name}: needs about {needed:.1f} GB, {free:.1f} GB are free in {folder}; name "
            "another folder with --data-root"
        )


def _is_unpacked(archive: Archive, root: Path) -> bool:
    """Say whether an archive's folder is filled, or a marker says that it was unpacked."""
    target = root / archive.folder
    filled = bool(archive.folder) and target.is_dir() and any(target.iterdir())
    return filled or _marker(archive, root).exists()


def _marker(archive: Archive, root: Path) -> Path:
    return root / f".{_file_name(archive)}.unpacked"


def _file_name(archive: Archive) -> str:
    return urlsplit(archive.url).path.rpartition("/")[2]
