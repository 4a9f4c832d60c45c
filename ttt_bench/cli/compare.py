"""`ttt-bench compare`: finished runs side by side."""

import json
from pathlib import Path

import click


@click.command("compare", short_help="Put finished runs side by side.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--format", "format_", type=click.Choice(["text", "json", "markdown"]),
              default="text", show_default=True, help="Of what is printed.")  # fmt: skip
def command(paths: tuple[Path, ...], format_: str) -> None:
    """Compare the runs at or below each PATH (by default those under ttt-bench-runs).

    Accuracies come with 95 % Wilson intervals; every pair of methods on the same samples with a
    paired bootstrap interval and the exact McNemar p. Runs whose samples, classes, limit or seed
    differ do not share a column: the field is named and nothing is printed.
    """
    from ttt_bench.compare.runs import compare, read_runs
    from ttt_bench.records import DEFAULT_OUTPUT

    compared = compare(read_runs(paths or [DEFAULT_OUTPUT]))
    if format_ == "json":
        click.echo(json.dumps(compared, indent=2))
        return
    from ttt_bench.report.tables import notes, pairs, result_grids, show

    grids = result_grids(compared["rows"])
    if compared["pairs"]:
        grids.append(pairs(compared["pairs"]))
    show(grids, "markdown" if format_ == "markdown" else "text", notes(compared["rows"]))
