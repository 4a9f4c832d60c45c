"""`ttt-bench compare`: finished runs side by side."""

import json
from pathlib import Path
from typing import Any

import click

from ttt_bench.cli.options import format_option

FORMATS = ("text", "json", "markdown", "latex", "csv", "html")


@click.command("compare", short_help="Put finished runs side by side.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--reference", "-r", help="Set the numbers of a published table beside the measured.")
@format_option(FORMATS)
def command(paths: tuple[Path, ...], reference: str | None, format_: Any) -> None:
    """Compare the runs at or below each PATH (by default those under ttt-bench-runs).

    Accuracies come with 95 % Wilson intervals; every pair of methods on the same samples with a
    paired bootstrap interval, the exact McNemar p, the same corrected for the number of pairs
    (Holm), and the flips. Runs whose samples, classes, limit or seed differ do not share a column:
    the field is named and nothing is printed.
    """
    from ttt_bench.compare.read import read_runs
    from ttt_bench.report.comparison import comparison
    from ttt_bench.report.render import show
    from ttt_bench.runs.folder import DEFAULT_OUTPUT

    found = comparison(read_runs(paths or [DEFAULT_OUTPUT]), reference)
    if format_ == "json":
        click.echo(json.dumps(found.compared, indent=2))
    else:
        show(found.grids, format_, found.notes)
