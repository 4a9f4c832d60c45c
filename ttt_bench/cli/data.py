"""`ttt-bench data`: the state of datasets on disk, downloading, verifying."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ttt_bench.api.errors import UserError
from ttt_bench.api.text import plain
from ttt_bench.cli.options import data_root_option, format_option

if TYPE_CHECKING:
    from ttt_bench.api.acquisition import HowToGet
    from ttt_bench.datasets.acquire.state import State

# Problems of a dataset that `verify` prints; further ones are counted.
SHOWN = 10


@click.group("data", short_help="Show, download and verify datasets on disk.")
def command() -> None:
    """Show which datasets are on disk, download them, and verify them.

    Datasets are looked for under --data-root, then under the environment variable TTT_BENCH_DATA,
    then in the user's data folder.

    \b
    ttt-bench data status
    ttt-bench data status dtd
    ttt-bench data download dtd eurosat --data-root /data
    ttt-bench data verify dtd
    """


@command.command("status", short_help="Show which datasets are on disk and how to get the others.")
@click.argument("names", nargs=-1, metavar="[DATASET]...")
@data_root_option
@format_option()
def status(names: tuple[str, ...], data_root: Path | None, format_: str) -> None:
    """Show the state of every dataset, or of each DATASET with the steps to get it."""
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


@command.command("download", short_help="Download the datasets that have a public address.")
@click.argument("names", nargs=-1, required=True, metavar="DATASET...")
@data_root_option
def download(names: tuple[str, ...], data_root: Path | None) -> None:
    """Download, check and unpack each DATASET, and print the steps that remain for you.

    A download that was stopped continues with the same command. A dataset that is complete is left
    alone.
    """
    from ttt_bench.datasets.acquire.state import find_state

    states = [find_state(name, data_root) for name in names]
    for state in states:
        _download(state, data_root)
    if not any(state.dataset or _how_to_get(state).archives for state in states):
        raise UserError(
            f"{', '.join(names)}: no public address to download from; follow the steps above"
        )


@command.command("verify", short_help="Check datasets on disk: counts, and a sample of the images.")
@click.argument("names", nargs=-1, metavar="[DATASET]...")
@data_root_option
def verify(names: tuple[str, ...], data_root: Path | None) -> None:
    """Verify each DATASET, or every dataset that is on disk.

    Every test image has to be present, the numbers of images have to be the published ones, and a
    sample of the images is decoded.
    """
    from ttt_bench.datasets.acquire.state import find_state, names_on_disk

    states = [find_state(name, data_root) for name in names or names_on_disk()]
    if not names:
        states = [state for state in states if state.word != "missing"]
    if not states:
        raise UserError("no dataset is on disk; see `ttt-bench data status`")
    failed = [problem for state in states if (problem := _verify(state))]
    if failed:
        more = f" (and {len(failed) - 1} more datasets with problems)" if len(failed) > 1 else ""
        raise UserError(failed[0] + more)


def _how_to_get(state: "State") -> "HowToGet":
    how_to_get = state.spec.how_to_get
    # `find_state` refuses the others.
    assert how_to_get is not None
    return how_to_get


def _as_json(state: "State") -> dict[str, Any]:
    how_to_get = _how_to_get(state)
    return {
        "name": state.name,
        "status": state.word,
        "path": str(state.folder) if state.folder else None,
        "problem": state.problem,
        "gigabytes": how_to_get.gigabytes,
        "archives": [vars(archive) for archive in how_to_get.archives],
        "steps": list(how_to_get.steps),
    }


def _show_table(states: Sequence["State"]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        # A pipe or a file has no width to fit.
        console = Console(width=200)
    table = Table()
    for column in ("dataset", "state", "GB", "how to get it", "folder, or problem"):
        table.add_column(column, justify="right" if column == "GB" else "left", overflow="fold")
    for state in states:
        how_to_get = _how_to_get(state)
        way = _way(how_to_get) if state.word == "missing" else ""
        shown = {"found": str(state.folder), "broken": state.problem, "missing": ""}[state.word]
        table.add_row(state.name, state.word, f"{how_to_get.gigabytes:g}", way, plain(shown))
    console.print(table, markup=False)


def _way(how_to_get: "HowToGet") -> str:
    """Return the way to get a dataset in a few words."""
    if not how_to_get.archives:
        return "by hand"
    return "download, steps" if how_to_get.steps else "download"


def _show_one(state: "State") -> None:
    click.echo(f"{state.name}: {state.word}")
    if state.folder:
        click.echo(plain(f"  {state.folder}"))
    if state.word == "broken":
        click.echo(plain(f"  {state.problem}"))
    how_to_get, folders = _how_to_get(state), " or ".join(state.spec.folders)
    click.echo(f"  {how_to_get.gigabytes:g} GB on disk, in a folder {folders}")
    if how_to_get.archives:
        click.echo(f"  `ttt-bench data download {state.name}` downloads and unpacks:")
    for archive in how_to_get.archives:
        stated = archive.hash or "no hash stated"
        click.echo(f"    {archive.url} ({archive.size / 1e9:.2g} GB, {stated})")
    if how_to_get.steps:
        click.echo("  by hand:")
        _show_steps(how_to_get)


def _show_steps(how_to_get: "HowToGet") -> None:
    for number, step in enumerate(how_to_get.steps, start=1):
        click.echo(f"    {number}. {step}")


def _download(before: "State", data_root: Path | None) -> None:
    """Download one dataset and print its state afterwards.

    Raises:
        UserError: an archive cannot be fetched, or the dataset is not ready although no step
            remains.
    """
    if before.dataset is not None:
        click.echo(f"{before.name}: complete, in {before.folder}")
        return
    how_to_get = _how_to_get(before)
    if not how_to_get.archives:
        click.echo(f"{before.name}: no public address; the steps to get it by hand:")
        _show_steps(how_to_get)
        return

    from ttt_bench.cli.progress import TransferProgress
    from ttt_bench.datasets.acquire.download import download
    from ttt_bench.datasets.acquire.state import find_state

    root, fetched = download(before.name, before.spec, data_root, TransferProgress)
    after = find_state(before.name, data_root)
    if after.dataset is not None:
        click.echo(f"{after.name}: complete, in {root}")
        return
    done = "downloaded" if fetched else "unpacked earlier (remove a folder to download it again)"
    click.echo(f"{after.name}: {done}, in {root}; not ready yet:")
    click.echo(plain(f"  {after.problem}"))
    _show_steps(how_to_get)
    if not how_to_get.steps:
        raise UserError(after.problem)


def _verify(state: "State") -> str:
    """Verify one dataset, print the result, and return the first problem, "" for none."""
    dataset = state.dataset
    if dataset is None:
        click.echo(f"{state.name}: {state.word}")
        return state.problem
    click.echo(
        f"{state.name}: {len(dataset.entries)} test images, {len(dataset.classes)} classes, in "
        f"{state.folder}"
    )
    problems = dataset.problems()
    shown = list(islice(problems, SHOWN))
    number = len(shown) + sum(1 for _ in problems)
    counts = len(dataset.expected_counts())
    compared = (
        f"{counts} counts compared with the published ones" if counts else "no counts are published"
    )
    click.echo(f"  {compared}, {len(dataset.sampled())} images decoded: {number} problems")
    for problem in shown:
        click.echo(plain(f"  {problem}"))
    return shown[0] if shown else ""
