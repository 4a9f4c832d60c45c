"""`ttt-bench apm features`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ttt_bench_apm.commands import options

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@click.command("features", short_help="Draw the features of APM and its teacher on a grid.")
@options.image
@options.checkpoint
@options.teacher
@options.weights
@options.fine
@options.device
@options.output
def features(
    image: Path | None,
    checkpoint: Path | None,
    teacher: str | None,
    weights: Path | None,
    fine: int,
    device: str,
    output: Path,
) -> None:
    """Draw the teacher's patch features of IMAGE, APM's at the same locations, and the error.

    Colours are three principal axes of the teacher's features (of APM's for --teacher none). The
    mean field of the checkpoint is subtracted first: what is left depends on the image, not on the
    location alone. A finer grid queries APM at --fine locations per side.
    """
    from ttt_bench_apm.analysis.drawing import save_figure
    from ttt_bench_apm.analysis.figures import error_panel, grid_panel, photograph_figure
    from ttt_bench_apm.analysis.reduction import PrincipalColours
    from ttt_bench_apm.self_supervised.images import square

    trained = options.load_trained(checkpoint, device)
    model = options.load_teacher(teacher, weights, trained, device)
    photograph = options.load_photograph(image, trained)
    name = options.image_name(image)
    side = trained.network.sizes.grid if model is None else model.rows
    has_mean = trained.mean_field is not None
    subtracted = ", less the mean field" if has_mean else ""

    def without_mean(values: "Tensor", points: int) -> "np.ndarray":
        return trained.subtract_mean_field(values, photograph.grid(points)).cpu().numpy()

    predicted = photograph.query(photograph.grid(side)).features  # (side*side, D)
    finer = without_mean(photograph.query(photograph.grid(fine)).features, fine)
    predictions = without_mean(predicted, side)
    if model is None:
        colours = PrincipalColours(predictions)
        teacher_panels, error_panels = [], []
        heading = f"{name}: APM's features{subtracted}"
    else:
        target = model(square(photograph.original, model.side)[None])[0].flatten(0, 1)
        error = (predicted - target).square().mean(1).cpu().numpy()  # (side*side,)
        targets = without_mean(target, side)
        # The error of the mean field, or of the mean feature where there is no mean field.
        constant = (targets**2).mean() if has_mean else targets.var(0).mean()
        summary = (
            f"mean squared error {error.mean():.3f}, "
            f"of {'the mean field' if has_mean else 'their mean'} {constant:.3f}"
        )
        colours = PrincipalColours(targets)
        teacher_panels = [grid_panel("teacher,", colours(targets))]
        error_panels = [error_panel("squared error", error, unit="mean over channels")]
        heading = f"{name}: features of {model.name} and of APM{subtracted} | {summary}"
        click.echo(f"{summary} ({constant / error.mean():.2f} times as much)")
        click.echo(f"the colours show {100 * colours.explained:.0f} % of the features' variance")
    apm_panels = [grid_panel("APM,", colours(values)) for values in (predictions, finer)]
    figure = photograph_figure(photograph, teacher_panels + apm_panels + error_panels, heading)
    click.echo(save_figure(figure, output / f"{name}-features.png"))
