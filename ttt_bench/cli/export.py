"""`ttt-bench export`: finished runs as one small file."""

from pathlib import Path

import click

from ttt_bench.api.errors import UserError


@click.command("export", short_help="Write finished runs into one small file.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...",
                required=True)  # fmt: skip
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="File to write, whose name ends with .zip.")  # fmt: skip
@click.option("--logits", is_flag=True, help="Keep the logits, which some metrics need.")
def command(paths: tuple[Path, ...], output: Path, logits: bool) -> None:
    """Write the finished runs at or below each PATH into one file.

    The file holds the protocol card, environment, cost, summary and records of every run. The
    commands compare, report, plot, show and verify take it in place of a folder. Runs that are
    unfinished are named and left out.

    \b
    ttt-bench export ttt-bench-runs -o results.zip
    ttt-bench compare results.zip
    """
    from ttt_bench.compare.read import read_runs
    from ttt_bench.runs.archive import SUFFIX
    from ttt_bench.runs.export import write_export

    if output.suffix != SUFFIX:
        raise UserError(f"{output}: the name of an exported file ends with {SUFFIX}; change -o")
    runs = read_runs(paths)
    write_export(output, [(run.files, run.summary) for run in runs], logits)
    size = output.stat().st_size / 1e6
    click.echo(f"{output}: {len(runs)} run{'s' * (len(runs) > 1)}, {size:.1f} MB")
