"""Where checkpoints are: beside this code, where a path says, or on the authors' server."""

import os
from pathlib import Path
from typing import Any, cast

import click
import pooch

from ttt_bench import UserError

EMBEDDED = Path(__file__).with_name("weights")

# What the authors published (README of their release), by file name.
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
    """The file that a path, the name of an embedded or of a published checkpoint stands for.

    Raises:
        UserError: a published file could not be had.
    """
    name = SHORT.get(name, name)
    if (EMBEDDED / name).is_file():
        return EMBEDDED / name
    if name in PUBLISHED and not Path(name).exists():
        return download(name, PUBLISHED[name], Path(pooch.os_cache("ttt-bench")))
    return Path(name)


def download(name: str, url: str, folder: Path) -> Path:
    """Fetch a file once.

    Its authors state no hash, so the one it had when it came is kept beside it, and a file that no
    longer has it is refused.

    Raises:
        UserError: it could not be fetched, or it changed.
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
            part = pin.with_suffix(".part")
            part.write_text(pooch.file_hash(str(path)))
            os.replace(part, pin)
    except ValueError as error:
        raise UserError(
            f"{path}: is not the file that was first downloaded, and neither is {url} now; "
            f"compare them, then remove {pin.name} to accept the new one"
        ) from error
    except OSError as error:
        reason = type(error).__name__
        raise UserError(
            f"{url} could not be had ({reason}); run this with a network, or put the file at {path}"
        ) from error
    return path
