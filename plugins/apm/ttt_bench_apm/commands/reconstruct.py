"""`ttt-bench apm reconstruct`."""

from pathlib import Path

import click

from ttt_bench_apm.commands import options


@click.command("reconstruct", short_help="Draw the colours that APM decodes from the field.")
@options.image
@options.checkpoint
@options.fine
@options.device
@options.output
def reconstruct(
    image: Path | None, checkpoint: Path | None, fine: int, device: str, output: Path
) -> None:
    """Draw the colours that APM decodes for IMAGE, on its own grid and on a finer one.

    The target is the mean colour of every cell of the network's grid, on the scale of its input
    (smallest value 0, largest 1).
    """
    import numpy as np

    from ttt_bench_apm.analysis.drawing import save_figure
    from ttt_bench_apm.analysis.figures import error_panel, grid_panel, photograph_figure
    from ttt_bench_apm.self_supervised.targets import average_colours

    trained = options.load_trained(checkpoint, device)
    photograph = options.load_photograph(image, trained)
    sizes, name = trained.network.sizes, options.image_name(image)
    target = average_colours(photograph.image[None], sizes.patch)[0].cpu().numpy()  # (cells, 3)
    decoded = photograph.query(photograph.grid(sizes.grid)).rgb.cpu().numpy()
    finer = photograph.query(photograph.grid(fine)).rgb.cpu().numpy()
    error = ((decoded - target) ** 2).mean(1)  # (cells,)
    constant = target.var(0).mean()
    summary = (
        f"mean squared error {error.mean():.4f}, of the image's one mean colour {constant:.4f}"
    )
    panels = [
        grid_panel("its mean colours,", target),
        grid_panel("decoded,", decoded.clip(0, 1)),
        grid_panel("decoded,", finer.clip(0, 1)),
        error_panel("error", np.sqrt(error), unit="root mean square"),
    ]
    figure = photograph_figure(photograph, panels, f"{name} reconstructed: {summary}")
    click.echo(summary)
    click.echo(save_figure(figure, output / f"{name}-reconstruction.png"))
