"""`ttt-bench compare`: finished runs in tables."""

import json
from pathlib import Path
from typing import Any

import click

from ttt_bench.cli.options import format_option

FORMATS = ("text", "json", "markdown", "latex", "csv", "html")


@click.command("compare", short_help="Put finished runs side by side.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--reference", "-r", metavar="NAME",
              help="Published numbers to set beside the measured ones; see `ttt-bench list "
              "references`.")  # fmt: skip
@format_option(FORMATS)
def command(paths: tuple[Path, ...], reference: str | None, format_: Any) -> None:
    """Compare the runs at or below each PATH (default: those under ttt-bench-runs).

    Accuracies have 95 % Wilson intervals. Every pair of methods on the same samples has its
    difference with a paired bootstrap interval, the exact McNemar p-value, that p-value corrected
    for the number of pairs (Holm), and the number of predictions that flip.

    Runs on one dataset stand in one table only if the protocol parts of their cards are equal:
    samples, classes, limit, seed. Otherwise the command names the field that differs and prints
    no table. Runs that are unfinished are named and left out.
    """
    from ttt_bench.compare.read import read_runs
    from ttt_bench.report.comparison import comparison
    from ttt_bench.report.findings import findings
    from ttt_bench.report.render import show
    from ttt_bench.runs.folder import DEFAULT_OUTPUT

    result = comparison(read_runs(paths or [DEFAULT_OUTPUT]), reference)
    if format_ == "json":
        click.echo(json.dumps(result.compared, indent=2))
    else:
        show(result.grids, format_, result.notes, findings(result.compared))
