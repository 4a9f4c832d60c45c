"""`ttt-bench apm sweep`."""

import csv
from pathlib import Path

import click

from ttt_bench_apm.commands import options


@click.command("sweep", short_help="Time, FLOPs and memory against the number of queried patches.")
@options.image
@options.checkpoint
@options.teacher
@options.weights
@click.option("--chunk", type=click.IntRange(min=1), default=1024, show_default=True,
              help="Locations asked together.")  # fmt: skip
@click.option("--patience", type=click.FloatRange(min=0), default=5.0, show_default=True,
              help="Seconds that one pass of the teacher may take; longer ones are not run, and "
                   "their FLOPs extrapolated.")  # fmt: skip
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
    """Ask IMAGE at 7 to 224 locations per side, and give the teacher an image of as many patches.

    A table (also as CSV), a plot, and the colours that APM decodes at each of these resolutions,
    which its training did not see. FLOPs are counted as for `run`, two for a multiply-add; MB are
    the peak of live tensors, weights included.
    """
    from ttt_bench import UserError
    from ttt_bench_apm.analysis.costs import SIDES, field_costs, teacher_costs
    from ttt_bench_apm.analysis.drawing import Panel, draw, on_grid, save_figure
    from ttt_bench_apm.analysis.figures import costs_figure

    trained = options.load_trained(checkpoint, device)
    model = options.load_teacher(teacher, weights, trained, device)
    subject, name = options.load_subject(image, trained), options.name_of(image)
    rows = {"APM": field_costs(subject, SIDES, chunk)}
    if model is not None:
        rows[model.name] = teacher_costs(model, SIDES, patience)
    table = [
        (who, cost.side, cost.gflops, cost.seconds, cost.megabytes)
        for who, costs in rows.items()
        for cost in costs
    ]
    click.echo(f"{'model':<12}{'patches':>12}{'GFLOPs':>12}{'seconds':>12}{'MB':>12}")
    for who, side, *numbers in table:
        shown = "".join(f"{'not run' if n is None else f'{n:.4g}':>12}" for n in numbers)
        click.echo(f"{who:<12}{f'{side}x{side}':>12}{shown}")
    path = output / "sweep.csv"
    try:
        output.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["model", "patches_per_side", "gflops", "seconds", "megabytes"])
            writer.writerows(table)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); give another -o") from error
    click.echo(path)
    click.echo(
        save_figure(costs_figure(rows, str(trained.network.sizes.grid)), output / "sweep.png")
    )
    pictures = [Panel("input", subject.seen)]
    for side in SIDES:
        decoded = subject.ask(subject.grid(side), chunk).rgb.cpu().numpy().clip(0, 1)
        pictures.append(Panel(f"{side}x{side}", on_grid(decoded)))
    figure = draw([pictures], f"{name}: colours decoded at 7x7 to 224x224 locations")
    click.echo(save_figure(figure, output / f"{name}-resolutions.png"))
