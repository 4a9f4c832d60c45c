"""Checkpoints: written whole, and read without running what is in them."""

import argparse
import hashlib
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.regular_files import require_regular
from ttt_bench.toolkit.atomic import atomic_write

# The largest published image models take 20 GB.
LARGEST_CHECKPOINT = 64 << 30


def read_checkpoint(path: Path) -> Any:
    """Return the content of a file that `torch.save` wrote: tensors, plain values, dicts and lists.

    Nothing in the file is executed. The command-line options that training scripts save along come
    as an `argparse.Namespace`.

    Args:
        path: a regular file.

    Raises:
        UserError: there is no such file, it is no regular one, or it holds anything else.
    """
    require_regular(path, LARGEST_CHECKPOINT)
    try:
        _require_stored(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        _require_plain_tensors(content)
        return content
    # A damaged or hostile file can fail in any way there is.
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"{path}: not a checkpoint of tensors ({reason}); give another") from error


def _require_stored(path: Path) -> None:
    """Refuse an archive that unpacks to more than its own size; `torch.save` never compresses."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, more than it has")


def _require_plain_tensors(content: Any) -> None:
    """Refuse tensors that are not dense numbers in memory, such as sparse ones or views.

    A view can have any number of entries without the memory for them.
    """
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        # Values that are contained many times are looked at once.
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
                raise ValueError(f"it holds a tensor on {value.device} of {value.layout}")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(f"it holds a tensor of shape {list(value.shape)} without its data")
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value


def save_checkpoint(content: Any, path: Path) -> None:
    """Write a checkpoint whole or not at all; equal contents give equal bytes.

    Args:
        content: tensors, plain values, dicts and lists of them.
        path: the file to write or replace.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        # To a path torch.save would write the temporary file's name into the file.
        torch.save(content, file)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a regular file.

    Args:
        path: a regular file.

    Raises:
        UserError: there is no such file, it is no regular one, or it cannot be read.
    """
    require_regular(path, LARGEST_CHECKPOINT)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the path of a readable file") from error
