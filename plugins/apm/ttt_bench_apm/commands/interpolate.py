"""`ttt-bench apm interpolate`."""

from pathlib import Path

import click

from ttt_bench_apm.commands import options


@click.command("interpolate", short_help="Draw the fields between two images.")
@options.image
@click.argument("other", required=False, type=click.Path(path_type=Path))
@options.checkpoint
@click.option("--steps", type=click.IntRange(2, 1000), default=16, show_default=True,
              help="Number of equal steps from one image to the other.")  # fmt: skip
@options.fine
@options.device
@options.output
def interpolate(
    image: Path | None,
    other: Path | None,
    checkpoint: Path | None,
    steps: int,
    fine: int,
    device: str,
    output: Path,
) -> None:
    """Move the trigger from IMAGE to OTHER and draw the field at every step.

    The results are a strip of some steps and an animation of all. Features are shown in the colours
    of three principal axes of both ends, less the mean field of the checkpoint.
    """
    import numpy as np

    from ttt_bench import UserError
    from ttt_bench_apm.analysis.drawing import save_animation, save_figure
    from ttt_bench_apm.analysis.figures import interpolation_figures
    from ttt_bench_apm.analysis.reduction import PrincipalColours
    from ttt_bench_apm.self_supervised.interpolation import interpolate as fields_between

    if image is not None and other is None:
        raise UserError("interpolate needs two photographs, or none for the embedded ones")
    trained = options.load_trained(checkpoint, device)
    paths = (image, other)
    first, second = (options.load_photograph(path, trained, n) for n, path in enumerate(paths))
    names = [options.image_name(path, n) for n, path in enumerate(paths)]
    grid = first.grid(fine)
    fields = list(
        fields_between(trained.network, first.image, second.image, steps, grid, last=True)
    )
    features = [trained.subtract_mean_field(field.features, grid).cpu().numpy() for field in fields]
    colours = PrincipalColours(np.concatenate([features[0], features[-1]]))
    strip, frames = interpolation_figures(
        (first.input_display, second.input_display),
        [field.rgb.cpu().numpy().clip(0, 1) for field in fields],
        [colours(values) for values in features],
        f"the trigger moves from {names[0]} to {names[1]}, queried at {fine}x{fine}",
    )
    click.echo(save_figure(strip, output / f"{names[0]}-to-{names[1]}.png"))
    click.echo(save_animation(frames, output / f"{names[0]}-to-{names[1]}.gif", milliseconds=150))
