"""`ttt-bench report`: a whole comparison on one page."""

from pathlib import Path

import click

from ttt_bench.api.errors import UserError


@click.command("report", short_help="Write one HTML page of finished runs.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path),
              default=Path("report.html"), show_default=True,
              help="File to write the page to.")  # fmt: skip
@click.option("--reference", "-r", metavar="NAME",
              help="Published numbers to set beside the measured ones; see `ttt-bench list "
              "references`.")  # fmt: skip
def command(paths: tuple[Path, ...], output: Path, reference: str | None) -> None:
    """Write one page of the runs at or below each PATH (default: those under ttt-bench-runs).

    The page holds the tables, the figures, the samples on which methods disagree, the protocol
    cards, and the commands that make the runs again. It is one file and opens without a network.
    """
    from ttt_bench.compare.read import read_runs
    from ttt_bench.report.html import page
    from ttt_bench.runs.folder import DEFAULT_OUTPUT

    text = page(read_runs(paths or [DEFAULT_OUTPUT]), reference)
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); give another -o") from error
    click.echo(f"{output}: {len(text.encode()) / 1e6:.1f} MB")
