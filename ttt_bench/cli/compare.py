"""`ttt-bench compare`: finished runs in tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ttt_bench.api.errors import UserError
from ttt_bench.api.text import plain
from ttt_bench.cli.options import format_option

if TYPE_CHECKING:
    from ttt_bench.report.comparison import Comparison

FORMATS = ("text", "json", "markdown", "latex", "csv", "html")
RESULTS = "results"


@click.command("compare", short_help="Put finished runs side by side.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--where", multiple=True, metavar="FIELD=VALUE",
              help="Compare the runs with this field of the card or of the configuration. May be "
              "repeated.")  # fmt: skip
@click.option("--only", multiple=True, metavar="METHOD",
              help="Show this method, METHOD:KEY=VALUE,... or the label of a row. May be "
              "repeated.")  # fmt: skip
@click.option("--without", multiple=True, metavar="METHOD",
              help="Leave this method or row out. May be repeated.")  # fmt: skip
@click.option("--against", metavar="METHOD",
              help="Compare every row with this one alone.  [default: every pair]")  # fmt: skip
@click.option("--by-seed", is_flag=True,
              help="Show a row for each seed, in place of their mean.")  # fmt: skip
@click.option("--sort", metavar="METRIC",
              help="Metric or cost that orders the rows, the best first; or name.")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="Metric or cost to show in the results. May be repeated.")  # fmt: skip
@click.option("--tables", "--table", "tables", multiple=True, metavar="NAME",
              help="Table to show: results, datasets, groups, pairs, metrics, costs, or all. May "
              "be repeated.  [default: results, datasets]")  # fmt: skip
@click.option("--reference", "-r", metavar="NAME",
              help="Published numbers to set beside the measured ones; see `ttt-bench list "
              "references`.")  # fmt: skip
@click.option("--caption", default="", help="Caption of a LaTeX table.")
@click.option("--label", default="", help="Label of a LaTeX table.")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path),
              help="File to write to, in place of the terminal.")  # fmt: skip
@format_option(FORMATS)
def command(
    paths: tuple[Path, ...],
    where: tuple[str, ...],
    tables: tuple[str, ...],
    caption: str,
    label: str,
    output: Path | None,
    format_: Any,
    **options: Any,
) -> None:
    """Compare the runs at or below each PATH (default: those under ttt-bench-runs).

    Runs stand in one table if the protocol parts of their cards are equal but for the seed. Runs
    that fit no table, and runs that are unfinished, are named and left out.

    Rows are labelled by the least that tells them apart. Runs that differ in the seed alone are
    one row: mean, standard deviation and number of seeds.

    Accuracies have 95 % Wilson intervals. Differences are of the same samples, with a paired
    bootstrap interval, the exact McNemar p-value and that value corrected for the number of pairs
    (Holm). With several seeds, interval and p-value are by a bootstrap over samples and seeds.

    \b
    ttt-bench compare --where limit=96 --against clip-zero-shot --sort top1
    ttt-bench compare --only apm --metric top1 --metric ece --metric ms_per_sample
    ttt-bench compare --format csv --table pairs -o pairs.csv
    """
    from ttt_bench.python.results import load
    from ttt_bench.runner.values import read_settings
    from ttt_bench.runs.folder import DEFAULT_OUTPUT

    if (caption or label) and format_ != "latex":
        raise UserError("--caption and --label are for --format latex; leave them out")
    if format_ in ("latex", "csv") and (len(tables) > 1 or "all" in tables):
        raise UserError(f"--format {format_} is one table; name one by --table")
    results = load(paths or [DEFAULT_OUTPUT])
    compared = results.compare(where=read_settings(where, "--where"), **options)
    _print(compared.comparison, compared.left_out, format_, tables, (caption, label), output)


def _print(
    compared: "Comparison",
    left_out: Sequence[str],
    format_: Any,
    tables: tuple[str, ...],
    captions: tuple[str, str],
    output: Path | None,
) -> None:
    """Print a comparison, or write it to a file; runs that fit no table are named last."""
    from ttt_bench.report.findings import findings
    from ttt_bench.report.render import rendered, show

    sentences = findings(compared.compared)
    grids = compared.chosen(tables or ((RESULTS,) if format_ == "latex" else ()))
    if format_ == "text" and output is None:
        notes = [*compared.notes, *filter(None, [compared.further(tables)])]
        show(grids, "text", notes, sentences)
    elif format_ == "json":
        _write(json.dumps(compared.compared, indent=2), output)
    elif format_ == "csv":
        from ttt_bench.report.tidy import tidy

        _write(tidy(compared, tables[0] if tables else RESULTS), output)
    else:
        if format_ == "latex" and len(grids) > 1:
            raise UserError(
                f"--format latex is one table, and these runs make {len(grids)}; choose by "
                "--where, such as --where dataset=NAME"
            )
        _write(rendered(grids, format_, compared.notes, sentences, *captions), output)
    for line in left_out:
        click.echo(plain(line), err=True)


def _write(text: str, output: Path | None) -> None:
    """Print text, or write it to a file.

    Raises:
        UserError: the file cannot be written.
    """
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(f"{text}\n", "utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); give another -o") from error
    click.echo(output)
