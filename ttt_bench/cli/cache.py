"""`ttt-bench cache`: what the feature cache holds, and clearing it."""

import json
import time
from typing import TYPE_CHECKING, Any

import click

from ttt_bench.api.text import plain
from ttt_bench.cli.options import format_option

if TYPE_CHECKING:
    from ttt_bench.cache.inventory import CacheFile

MEGABYTE = 1e6


@click.command("cache", short_help="Show the cache of features by dataset, backbone and view set.")
@click.option("--clear", is_flag=True, help="Remove what is shown.")
@click.option("--dataset", default="", help="Only features of this dataset.")
@click.option("--backbone", default="", help="Only features of this backbone.")
@format_option()
def command(clear: bool, dataset: str, backbone: str, format_: str) -> None:
    """Show what the feature cache holds, where it is, and how large it may get.

    Features of images and of their views are computed once for each backbone. What was unused for
    the longest time is removed when the cache reaches its limit, a tenth of the disk's free space
    or TTT_BENCH_CACHE_LIMIT, such as 20GB. Removing features costs time, never a result.

    \b
    ttt-bench cache
    ttt-bench cache --clear --backbone tiny-clip
    """
    from ttt_bench.cache import inventory as cache
    from ttt_bench.cache.store import cache_folder, cache_limit

    files = [
        file
        for file in cache.inventory()
        if dataset in ("", file.dataset) and backbone in ("", file.key.get("backbone"))
    ]
    if clear:
        removed = cache.clear(files)
        click.echo(f"{len(files)} files removed, {removed / MEGABYTE:.1f} MB")
        return
    if format_ == "json":
        facts = {"folder": str(cache_folder()), "limit_bytes": cache_limit()}
        click.echo(json.dumps({**facts, "files": [_as_json(file) for file in files]}, indent=2))
        return
    if files:
        _show(files)
    total = sum(file.size for file in files)
    click.echo(plain(f"{cache_folder()}: {total / MEGABYTE:.1f} MB of at most "
                     f"{cache_limit() / MEGABYTE:,.0f} MB"))  # fmt: skip


def _show(files: "list[CacheFile]") -> None:
    from ttt_bench.report.grid import Grid
    from ttt_bench.report.render import show

    header = ["dataset", "backbone", "content", "entries", "MB", "last used"]
    rows = [
        [
            file.dataset or "any",
            file.backbone or "any",
            file.content,
            "-" if file.entries is None else f"{file.entries:,}",
            f"{file.size / MEGABYTE:.1f}",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(file.used)),
        ]
        for file in files
    ]
    show([Grid("feature cache", header, rows)], "text", [])


def _as_json(file: "CacheFile") -> dict[str, Any]:
    return {
        "dataset": file.dataset,
        "backbone": file.backbone,
        "content": file.content,
        "entries": file.entries,
        "bytes": file.size,
        "used": file.used,
        "path": str(file.path),
    }
