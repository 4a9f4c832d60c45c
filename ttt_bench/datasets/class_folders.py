"""Reading a folder that holds a folder of images for each of ImageNet's classes.

A class folder's label follows from its name, never from its position in a listing.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from ttt_bench.api.dataset import Entry
from ttt_bench.api.errors import UserError
from ttt_bench.datasets.image_files import is_image


def find_class_folders(
    name: str, root: Path, candidates: Iterable[str], labels: Mapping[str, int]
) -> Path:
    """Return the first of some folders in `root` that holds a class folder.

    Args:
        name: the dataset's name, for messages.
        root: the dataset's folder.
        candidates: folders within `root` to look in, "" for `root` itself.
        labels: label of each class folder's name.

    Raises:
        UserError: none does; the message says what is there instead.
    """
    folders = [root / candidate for candidate in candidates if (root / candidate).is_dir()]
    for folder in folders:
        if any((folder / class_folder).is_dir() for class_folder in labels):
            return folder
    example = next(iter(labels))
    for folder in folders:
        unsorted = min(filter(is_image, os.listdir(folder)), default=None)
        if unsorted:
            raise UserError(
                f"{name}: {folder / unsorted} lies in no class folder; sort the images into "
                f"folders named as {example}"
            )
    others = sorted(item.name for item in os.scandir(root) if item.is_dir())[:3]
    raise UserError(
        f"{name}: no class folder as {example} in {' or '.join(map(str, folders))}, "
        f"found {', '.join(others) or 'no folder'}; put each class's images in a folder of its own"
    )


def read_entries(name: str, folder: Path, labels: Mapping[str, int]) -> list[Entry]:
    """Return every image in the class folders of `folder`, by label and then by file name.

    Keys are `<class folder>/<file>`, so they do not depend on where the class folders are.

    Args:
        name: the dataset's name, for messages.
        folder: the folder that holds the class folders.
        labels: label of each class folder's name.

    Raises:
        UserError: a folder is no class, or a class folder has no image.
    """
    subfolders = [item.name for item in os.scandir(folder) if item.is_dir() and item.name[0] != "."]
    if unknown := sorted(item for item in subfolders if item not in labels):
        raise UserError(
            f"{name}: {folder / unknown[0]} is none of its {len(labels)} class folders (as "
            f"{next(iter(labels))}); remove it"
        )
    entries = []
    for class_folder in sorted(subfolders, key=labels.__getitem__):
        files = os.scandir(folder / class_folder)
        images = sorted(file.name for file in files if is_image(file.path))
        if not images:
            raise UserError(
                f"{name}: no image in {folder / class_folder}; fill the folder or remove it"
            )
        entries += [
            Entry(f"{class_folder}/{image}", None, labels[class_folder]) for image in images
        ]
    return entries


def require_complete(
    name: str,
    folder: Path,
    entries: Iterable[Entry],
    labels: Mapping[str, int],
    *,
    total: int,
    per_class: int | None,
    remedy: str,
) -> None:
    """Compare the images in `folder` with the published numbers of classes and images.

    Args:
        name: the dataset's name, for messages.
        folder: the folder that holds the class folders.
        entries: the images.
        labels: label of each class folder's name.
        total: published number of images.
        per_class: published number of images of each class, None where it differs.
        remedy: what to do about a difference.

    Raises:
        UserError: they differ; the message names the first class that is short.
    """
    counts = count_by_folder(entries)
    if absent := [class_folder for class_folder in labels if class_folder not in counts]:
        raise UserError(
            f"{name}: {len(counts)} class folders in {folder}, {len(labels)} expected "
            f"({absent[0]} is missing); {remedy}"
        )
    if counts.total() != total:
        wrong = [item for item in counts if per_class not in (None, counts[item])]
        first = f" ({wrong[0]} has {counts[wrong[0]]}, not {per_class})" if wrong else ""
        raise UserError(
            f"{name}: {counts.total()} images in {folder}, {total} expected{first}; {remedy}"
        )


def count_by_folder(entries: Iterable[Entry]) -> Counter[str]:
    """Return the number of images by class folder."""
    return Counter(entry.key.partition("/")[0] for entry in entries)
