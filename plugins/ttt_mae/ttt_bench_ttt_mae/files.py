"""The places of checkpoints: this package, a path, or the authors' server."""

import os
from pathlib import Path
from typing import Any, cast

import click
import pooch

from ttt_bench import UserError, atomic_write

EMBEDDED = Path(__file__).with_name("weights")

# The published checkpoints (README of the official code), by file name.
PUBLISHED = {
    "mae_pretrain_vit_large_full.pth": (
        "https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_large_full.pth"
    ),
    "prob_lr1e-3_wd.2_blk12_ep20.pth": (
        "https://dl.fbaipublicfiles.com/mae/share/prob_lr1e-3_wd.2_blk12_ep20.pth"
    ),
}
SHORT = {"vit-large": "mae_pretrain_vit_large_full.pth"}


def locate(name: str) -> Path:
    """Return the file of an embedded checkpoint, of a published one, or of a path.

    A published file is downloaded when it is first used.

    Args:
        name: the name of an embedded or published checkpoint, or a path.

    Raises:
        UserError: a published file could not be downloaded.
    """
    name = SHORT.get(name, name)
    if os.path.isfile(EMBEDDED / name):
        return EMBEDDED / name
    if name in PUBLISHED and not os.path.exists(name):
        return download(name, PUBLISHED[name], Path(pooch.os_cache("ttt-bench")))
    return Path(name)


def download(name: str, url: str, folder: Path) -> Path:
    """Download a file once, and return its path.

    The authors publish no hash. The hash at the first download is saved beside the file, and a file
    with another one is refused.

    Args:
        name: name of the file.
        url: its address.
        folder: folder to save it in.

    Raises:
        UserError: the download failed, or the file has changed.
    """
    path, pin = folder / name, folder / f"{name}.sha256"
    known = pin.read_text().strip() if pin.exists() else None
    if not path.exists():
        click.echo(f"downloading {url} to {path}", err=True)
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            url, known, name, folder, downloader=cast(Any, pooch.HTTPDownloader(timeout=(10, 60)))
        )
        if known is None:
            with atomic_write(pin) as temporary:
                temporary.write_text(pooch.file_hash(str(path)))
    except ValueError as error:
        raise UserError(
            f"{path}: is not the file that was first downloaded, and neither is {url} now; "
            f"compare the two, and remove {pin.name} to accept the new one"
        ) from error
    except OSError as error:
        reason = type(error).__name__
        raise UserError(
            f"{url} could not be downloaded ({reason}); run this with a network, or save the file "
            f"as {path}"
        ) from error
    return path
