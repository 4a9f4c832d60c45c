"""`ttt-bench apm sweep`."""

import csv
from collections.abc import Sequence
from pathlib import Path

import click

from ttt_bench_apm.commands import options


@click.command("sweep", short_help="Measure time, FLOPs and memory against queried locations.")
@options.image
@options.checkpoint
@options.teacher
@options.weights
@click.option("--chunk", type=click.IntRange(min=1), default=1024, show_default=True,
              help="Locations that are computed together.")  # fmt: skip
@click.option("--patience", type=click.FloatRange(min=0), default=5.0, show_default=True,
              help="Seconds that one pass of the teacher may take. A longer pass is not run, and "
                   "its FLOPs are extrapolated.")  # fmt: skip
@options.device
@options.output
def sweep(
    image: Path | None,
    checkpoint: Path | None,
    teacher: str | None,
    weights: Path | None,
    chunk: int,
    patience: float,
    device: str,
    output: Path,
) -> None:
    """Query IMAGE at 7 to 224 locations per side, and give the teacher images of as many patches.

    The results are a table (also as CSV), a plot, and the colours that APM decodes at each of these
    resolutions. FLOPs are counted as `ttt-bench run` counts them, two for a multiply-add. MB are
    the peak of live tensors, weights included.
    """
    from ttt_bench_apm.analysis.costs import SIDES, field_costs, teacher_costs
    from ttt_bench_apm.analysis.drawing import Panel, draw, on_grid, save_figure, write_file
    from ttt_bench_apm.analysis.figures import costs_figure

    trained = options.load_trained(checkpoint, device)
    model = options.load_teacher(teacher, weights, trained, device)
    photograph, name = options.load_photograph(image, trained), options.image_name(image)
    costs = {"APM": field_costs(photograph, SIDES, chunk)}
    if model is not None:
        costs[model.name] = teacher_costs(model, SIDES, patience)
    rows = [
        (model_name, cost.side, cost.gflops, cost.seconds, cost.megabytes)
        for model_name, model_costs in costs.items()
        for cost in model_costs
    ]
    click.echo(f"{'model':<12}{'patches':>12}{'GFLOPs':>12}{'seconds':>12}{'MB':>12}")
    for model_name, side, *numbers in rows:
        cells = "".join(f"{'not run' if n is None else f'{n:.4g}':>12}" for n in numbers)
        click.echo(f"{model_name:<12}{f'{side}x{side}':>12}{cells}")
    click.echo(write_file(output / "sweep.csv", lambda file: _write_csv(file, rows)))
    figure = costs_figure(costs, trained.network.sizes.grid)
    click.echo(save_figure(figure, output / "sweep.png"))
    panels = [Panel("input", photograph.input_display)]
    for side in SIDES:
        decoded = photograph.query(photograph.grid(side), chunk).rgb.cpu().numpy().clip(0, 1)
        panels.append(Panel(f"{side}x{side}", on_grid(decoded)))
    heading = f"{name}: colours decoded at 7x7 to 224x224 locations"
    click.echo(save_figure(draw([panels], heading), output / f"{name}-resolutions.png"))


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "patches_per_side", "gflops", "seconds", "megabytes"])
        writer.writerows(rows)
