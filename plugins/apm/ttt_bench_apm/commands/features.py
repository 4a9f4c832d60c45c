"""`ttt-bench apm features`."""

from pathlib import Path
from typing import Any

import click

from ttt_bench_apm.commands import options


@click.command("features", short_help="Teacher's and APM's grid of features, and a finer field.")
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
    """Draw the teacher's patch features of IMAGE, APM's at the same places, and where they differ.

    Colours are three principal axes of the teacher's features of this image (of APM's without a
    teacher), less the mean field that the checkpoint keeps: what is left is of this image and not
    of the place. A finer picture asks APM at --fine places per side.
    """
    import numpy as np

    from ttt_bench_apm.analysis.drawing import save_figure
    from ttt_bench_apm.analysis.figures import features_figure, field_figure
    from ttt_bench_apm.analysis.reduction import Colours
    from ttt_bench_apm.self_supervised.images import square

    trained = options.load_trained(checkpoint, device)
    model = options.load_teacher(teacher, weights, trained, device)
    subject = options.load_subject(image, trained)
    name = options.name_of(image)

    def beyond_place(features: Any, points: int) -> np.ndarray:
        return trained.less_mean(features, subject.grid(points)).cpu().numpy()

    finer = beyond_place(subject.ask(subject.grid(fine)).features, fine)
    less = "" if trained.mean_field is None else ", less the mean field"
    if model is None:
        side = trained.network.sizes.grid
        own = beyond_place(subject.ask(subject.grid(side)).features, side)
        colours = Colours(own)
        grids = [colours(own), colours(finer)]
        heading = f"{name}: APM's features{less}"
        figure = field_figure(subject.photograph, subject.seen, grids, heading)
    else:
        wanted = model(square(subject.original, model.side)[None])[0].flatten(0, 1)
        answered = subject.ask(subject.grid(model.rows)).features
        error = (answered - wanted).square().mean(1).cpu().numpy()
        wanted, answered = (beyond_place(some, model.rows) for some in (wanted, answered))
        spread = (wanted**2).mean() if less else ((wanted - wanted.mean(0)) ** 2).mean()
        said = f"mean squared error {error.mean():.3f}"
        said += f", of {'the mean field' if less else 'their mean'} {spread:.3f}"
        colours = Colours(wanted)
        figure = features_figure(
            subject.photograph, subject.seen, colours(wanted), colours(answered), error,
            colours(finer), f"{name}: features of {model.name} and of APM{less} | {said}",
        )  # fmt: skip
        click.echo(f"{said} ({spread / error.mean():.2f} times as much)")
        click.echo(f"the three colours hold {100 * colours.explained:.0f} % of what varies")
    click.echo(save_figure(figure, output / f"{name}-features.png"))
