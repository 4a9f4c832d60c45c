"""`ttt-bench compare`: finished runs side by side."""

import json
from pathlib import Path
from typing import Any

import click

FORMATS = ("text", "json", "markdown", "latex", "csv", "html")


@click.command("compare", short_help="Put finished runs side by side.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--reference", "-r", help="Set the numbers of a published table beside the measured.")
@click.option("--format", "format_", type=click.Choice(FORMATS),
              default="text", show_default=True, help="Of what is printed.")  # fmt: skip
def command(paths: tuple[Path, ...], reference: str | None, format_: Any) -> None:
    """Compare the runs at or below each PATH (by default those under ttt-bench-runs).

    Accuracies come with 95 % Wilson intervals; every pair of methods on the same samples with a
    paired bootstrap interval, the exact McNemar p, the same corrected for the number of pairs
    (Holm), and the flips. Runs whose samples, classes, limit or seed differ do not share a column:
    the field is named and nothing is printed.
    """
    from ttt_bench.compare.published import beside
    from ttt_bench.compare.runs import compare, read_runs
    from ttt_bench.plugins import registry
    from ttt_bench.records import DEFAULT_OUTPUT

    published = registry().references.find(reference).spec.load()() if reference else None
    tables = published.tables if published else ()
    runs = read_runs(paths or [DEFAULT_OUTPUT])
    compared = compare(runs)
    for row in compared["rows"]:
        row["reference"] = beside(row, tables)
    if format_ == "json":
        click.echo(json.dumps(compared, indent=2))
        return
    from ttt_bench.report import tables as grids_of
    from ttt_bench.report.costs import cost_table, published_costs
    from ttt_bench.report.render import show

    rows = compared["rows"]
    grids = grids_of.result_grids(rows)
    if (across := grids_of.by_dataset(rows, compared["averages"])) is not None:
        grids.insert(0, across)
    if compared["pairs"]:
        grids.append(grids_of.pairs(compared["pairs"]))
    grids.append(cost_table(runs))
    said = grids_of.notes(rows)
    if reference:
        said.append("≠: the printed average does not follow from the printed cells.")
        grids += [grids_of.beside_published(reference, rows), *grids_of.published(tables)]
    if published and published.costs:
        grids.append(published_costs(published.costs))
    show(grids, format_, said)
