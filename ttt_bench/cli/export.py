"""`ttt-bench export`: finished runs as one small file."""

from pathlib import Path

import click


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
    from ttt_bench.compare.export import export_runs

    runs = export_runs(paths, output, logits)
    size = output.stat().st_size / 1e6
    click.echo(f"{output}: {runs} run{'s' * (runs > 1)}, {size:.1f} MB")
