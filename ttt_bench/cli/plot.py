"""`ttt-bench plot`: the report's figures as files for a paper."""

from pathlib import Path

import click

from ttt_bench.api.errors import UserError


@click.command("plot", short_help="Draw the figures of finished runs.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--figure", "-f", "wanted", multiple=True,
              type=click.Choice(["pareto", "corruptions", "steps", "calibration"]),
              help="Only this one; may be repeated.")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["pdf", "png", "svg"]), default="pdf",
              show_default=True, help="Of the files.")  # fmt: skip
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path),
              default=Path("figures"), show_default=True, help="Folder for the files.")  # fmt: skip
def command(paths: tuple[Path, ...], wanted: tuple[str, ...], format_: str, output: Path) -> None:
    """Draw the runs at or below each PATH (by default those under ttt-bench-runs).

    One file for every dataset and figure that the runs have something for.
    """
    from ttt_bench.compare.read import columns, read_runs
    from ttt_bench.report.figures import FIGURES
    from ttt_bench.runs.folder import DEFAULT_OUTPUT

    drawn = []
    for dataset, runs in columns(read_runs(paths or [DEFAULT_OUTPUT])).items():
        for name in wanted or FIGURES:
            figure = FIGURES[name](runs)
            if figure is None:
                continue
            file = output / f"{_file_name(dataset)}-{name}.{format_}"
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


def _file_name(dataset: str) -> str:
    name = "".join(c if c.isalnum() or c in "-_@." else "-" for c in dataset)
    # A path can be longer than a file's name may be; its end tells it from others.
    return name[-100:].strip(".-")
