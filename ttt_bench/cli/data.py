"""`ttt-bench data`: datasets on disk, what is there and how the rest is had."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ttt_bench.api.errors import UserError
from ttt_bench.cli.options import data_root_option, format_option
from ttt_bench.report.text import plain

if TYPE_CHECKING:
    from ttt_bench.api.on_disk import HowToGet
    from ttt_bench.datasets.acquire.state import State

# Problems of a dataset that `verify` prints before it only counts them.
SHOWN = 10


@click.group("data", short_help="See, download and verify datasets on disk.")
def command() -> None:
    """See which datasets are there, get them, and verify them.

    They are looked for under --data-root, then TTT_BENCH_DATA, then the user's data folder.

    \b
    ttt-bench data status
    ttt-bench data status dtd
    ttt-bench data download dtd eurosat --data-root /data
    ttt-bench data verify dtd
    """


@command.command("status", short_help="What is there, what is missing, where to get it.")
@click.argument("names", nargs=-1, metavar="[DATASET]...")
@data_root_option
@format_option()
def status(names: tuple[str, ...], data_root: Path | None, format_: str) -> None:
    """Show every dataset on disk, or each DATASET with the steps to get it."""
    from ttt_bench.api.on_disk import data_roots
    from ttt_bench.datasets.acquire.state import find_state, names_on_disk

    states = [find_state(name, data_root) for name in names or names_on_disk()]
    if format_ == "json":
        click.echo(json.dumps({"datasets": [_as_json(state) for state in states]}, indent=2))
        return
    if names:
        for state in states:
            _show_one(state)
    else:
        _show_table(states)
        click.echo("`ttt-bench data status DATASET` shows the steps to get one.")
    click.echo(f"looked in: {', '.join(map(str, data_roots(data_root)))}")


@command.command("download", short_help="Fetch what has a public address.")
@click.argument("names", nargs=-1, required=True, metavar="DATASET...")
@data_root_option
def download(names: tuple[str, ...], data_root: Path | None) -> None:
    """Fetch, check and unpack each DATASET, and say what remains to be done by hand.

    A download that was stopped continues with the same command; what is there is left alone.
    """
    from ttt_bench.datasets.acquire.state import find_state

    states = [find_state(name, data_root) for name in names]
    for state in states:
        _download(state, data_root)
    if all(
        state.kind and not state.dataset and not state.kind.acquisition.archives for state in states
    ):
        raise UserError(
            f"{', '.join(names)}: no public address to fetch from; the steps to get it by hand are "
            f"above"
        )


@command.command("verify", short_help="Count and decode what is there.")
@click.argument("names", nargs=-1, metavar="[DATASET]...")
@data_root_option
def verify(names: tuple[str, ...], data_root: Path | None) -> None:
    """Verify each DATASET, or every one that is there, against what is known of it.

    Every test image has to be there, the counts of classes have to be the known ones, and a sample
    of the images is decoded.
    """
    from ttt_bench.datasets.acquire.state import find_state, names_on_disk

    states = [find_state(name, data_root) for name in names or names_on_disk()]
    if not names:
        states = [state for state in states if state.word != "missing"]
    if not states:
        raise UserError("no dataset is there to be verified; see `ttt-bench data status`")
    failed = [problem for state in states if (problem := _verify(state))]
    if failed:
        more = f" (and {len(failed) - 1} more datasets with problems)" if len(failed) > 1 else ""
        raise UserError(failed[0] + more)


def _as_json(state: "State") -> dict[str, Any]:
    known = state.kind.acquisition if state.kind else None
    return {
        "name": state.name,
        "status": state.word,
        "path": str(state.folder) if state.folder else None,
        "problem": state.problem,
        "gigabytes": known.gigabytes if known else None,
        "archives": [vars(archive) for archive in known.archives] if known else [],
        "steps": list(known.steps) if known else [],
    }


def _show_table(states: Sequence["State"]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        # A pipe or a file has no width to fit.
        console = Console(width=200)
    table = Table()
    for column in ("dataset", "state", "GB", "to get it", "where, or what is wrong"):
        table.add_column(column, justify="right" if column == "GB" else "left", overflow="fold")
    for state in states:
        size = f"{state.kind.acquisition.gigabytes:g}" if state.kind else ""
        way = _way(state.kind.acquisition) if state.kind and state.word == "missing" else ""
        shown = {"found": str(state.folder), "broken": state.problem, "missing": ""}[state.word]
        table.add_row(state.name, state.word, size, way, plain(shown))
    console.print(table, markup=False)


def _way(acquisition: "HowToGet") -> str:
    """How a dataset is had, in a few words."""
    if not acquisition.archives:
        return "by hand"
    return "download, steps" if acquisition.steps else "download"


def _show_one(state: "State") -> None:
    click.echo(f"{state.name}: {state.word}")
    if state.folder:
        click.echo(plain(f"  {state.folder}"))
    if state.word == "broken":
        click.echo(plain(f"  {state.problem}"))
    if state.kind is None:
        return
    known = state.kind.acquisition
    click.echo(f"  {known.gigabytes:g} GB on disk, in a folder {' or '.join(state.kind.folders)}")
    if known.archives:
        click.echo(f"  `ttt-bench data download {state.name}` fetches and unpacks:")
    for archive in known.archives:
        stated = archive.hash or "no hash stated"
        click.echo(f"    {archive.url} ({archive.size / 1e9:.2g} GB, {stated})")
    if known.steps:
        click.echo("  by hand:")
        _show_steps(known)


def _show_steps(acquisition: "HowToGet") -> None:
    for number, step in enumerate(acquisition.steps, start=1):
        click.echo(f"    {number}. {step}")


def _download(before: "State", data_root: Path | None) -> None:
    """Get one dataset and say how it stands then.

    Raises:
        UserError: an archive cannot be had, or all that can be fetched is there and does not fit.
    """
    if before.dataset is not None:
        click.echo(f"{before.name}: is there, in {before.folder}")
        return
    if before.kind is None:
        raise UserError(before.problem)
    known = before.kind.acquisition
    if not known.archives:
        click.echo(f"{before.name}: to be had by hand")
        _show_steps(known)
        return

    from ttt_bench.cli.progress import TransferProgress
    from ttt_bench.datasets.acquire.download import download
    from ttt_bench.datasets.acquire.state import find_state

    root, fetched = download(before.name, before.kind, data_root, TransferProgress)
    after = find_state(before.name, data_root)
    if after.dataset is not None:
        click.echo(f"{after.name}: complete, in {root}")
        return
    done = "fetched" if fetched else "unpacked before (a folder that is removed is fetched again)"
    click.echo(f"{after.name}: {done}, in {root}; not ready yet:")
    click.echo(plain(f"  {after.problem}"))
    _show_steps(known)
    if not known.steps:
        raise UserError(after.problem)


def _verify(state: "State") -> str:
    """Verify one dataset, print what was checked, and return the first problem, "" for none."""
    dataset = state.dataset
    if dataset is None:
        click.echo(f"{state.name}: {state.word}")
        return state.problem
    click.echo(
        f"{state.name}: {len(dataset.entries)} test images, {len(dataset.classes)} classes, in "
        f"{state.folder}"
    )
    found = dataset.problems()
    shown = list(islice(found, SHOWN))
    number = len(shown) + sum(1 for _ in found)
    counts = len(dataset.expected_counts())
    compared = f"{counts} counts compared with the known ones" if counts else "no counts are known"
    click.echo(f"  {compared}, {len(dataset.sampled())} images decoded: {number} problems")
    for problem in shown:
        click.echo(plain(f"  {problem}"))
    return shown[0] if shown else ""
