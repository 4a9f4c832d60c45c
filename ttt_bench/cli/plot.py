"""`ttt-bench plot`: the report's figures as files for a paper."""

from pathlib import Path

import click

from ttt_bench.api.errors import UserError
from ttt_bench.api.text import plain

FIGURE_NAMES = (
    "differences", "pareto", "sweeps", "seeds", "corruptions", "steps", "calibration", "streams",
)  # fmt: skip


@click.command("plot", short_help="Draw the figures of finished runs.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--figure", "-f", "wanted", multiple=True,
              type=click.Choice(FIGURE_NAMES),
              help="Figure to draw. May be repeated.  [default: all]")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["pdf", "png", "svg"]), default="pdf",
              show_default=True, help="File format of the figures.")  # fmt: skip
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path),
              default=Path("figures"), show_default=True,
              help="Folder to write the figures to.")  # fmt: skip
def command(paths: tuple[Path, ...], wanted: tuple[str, ...], format_: str, output: Path) -> None:
    """Draw the figures of the runs at or below each PATH (default: those under ttt-bench-runs).

    Every figure of every dataset becomes a file. A figure that does not apply is left out, such as
    accuracy over the steps where no method iterates.
    """
    from ttt_bench.compare.pairs import tabulate
    from ttt_bench.compare.read import read_runs
    from ttt_bench.report.comparison import comparison
    from ttt_bench.report.figures import FIGURES
    from ttt_bench.runs.folder import DEFAULT_OUTPUT

    drawn = []
    tables, left_out = tabulate(read_runs(paths or [DEFAULT_OUTPUT]))
    for line in left_out:
        click.echo(plain(line), err=True)
    for table in comparison(tables).tables:
        for name in wanted or FIGURES:
            figure = FIGURES[name](table.rows)
            if figure is None:
                continue
            file = output / f"{_file_name(table.title)}-{name}.{format_}"
            try:
                output.mkdir(parents=True, exist_ok=True)
                figure.savefig(file, dpi=200)
            except OSError as error:
                raise UserError(
                    f"cannot write {file} ({error.strerror}); give another -o"
                ) from error
            drawn.append(file)
    if not drawn:
        raise UserError(f"these runs have nothing to draw for {', '.join(wanted)}")
    for file in drawn:
        click.echo(file)


def _file_name(title: str) -> str:
    name = "".join(c if c.isalnum() or c in "-_@." else "-" for c in title)
    # A file's name is limited, a path is not; paths differ most at their ends.
    return name[-100:].strip(".-")
