"""`ttt-bench apm interpolate`."""

from pathlib import Path

import click

from ttt_bench_apm.commands import options


@click.command("interpolate", short_help="From one image to another, in colours and features.")
@options.image
@click.argument("other", required=False, type=click.Path(path_type=Path))
@options.checkpoint
@click.option("--steps", type=click.IntRange(2, 1000), default=16, show_default=True,
              help="Equal parts of the way.")  # fmt: skip
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
    """Move the trigger from IMAGE to OTHER and draw what every location answers on the way.

    A strip, and an animation of all steps. Features are in the colours of three principal axes that
    the two ends share, less the mean field where the checkpoint keeps one.
    """
    import numpy as np

    from ttt_bench import UserError
    from ttt_bench_apm.analysis.drawing import save_animation, save_figure
    from ttt_bench_apm.analysis.figures import interpolation_figures
    from ttt_bench_apm.analysis.reduction import Colours
    from ttt_bench_apm.self_supervised.interpolation import interpolate as between

    if image is not None and other is None:
        raise UserError("interpolate wants two photographs, or none for the embedded ones")
    trained = options.load_trained(checkpoint, device)
    one, two = (options.load_subject(path, trained, n) for n, path in enumerate((image, other)))
    names = [options.name_of(path, n) for n, path in enumerate((image, other))]
    answers = list(between(trained.network, one.image, two.image, steps, one.grid(fine), last=True))
    grid = one.grid(fine)
    fields = [trained.less_mean(answer.features, grid).cpu().numpy() for answer in answers]
    colours = Colours(np.concatenate([fields[0], fields[-1]]))
    strip, frames = interpolation_figures(
        (one.seen, two.seen),
        [answer.rgb.cpu().numpy().clip(0, 1) for answer in answers],
        [colours(field) for field in fields],
        [step / steps for step in range(steps + 1)],
        f"the trigger on its way from {names[0]} to {names[1]}, asked at {fine}x{fine}",
    )
    stem = output / f"{names[0]}-to-{names[1]}"
    click.echo(save_figure(strip, stem.with_suffix(".png")))
    click.echo(save_animation(frames, stem.with_suffix(".gif"), milliseconds=150))
