"""Reading other people's weight files without running what is in them."""

import argparse
import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch

from ttt_bench.api.errors import UserError


def read_checkpoint(path: Path) -> Any:
    """What a file written by `torch.save` holds: tensors, plain values, dicts and lists of them.

    Nothing in the file is executed. Command-line options that a training script saved along (an
    `argparse.Namespace`) come as such.

    Raises:
        UserError: there is no such file, or it holds anything else.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path}: there is no such file; give the path of one")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged or hostile file can fail in any way there is.
    except Exception as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise UserError(f"{path}: not a checkpoint of tensors ({reason}); give another") from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UserError: there is no such file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror}; give a file") from error
