"""`ttt-bench apm reconstruct`."""

from pathlib import Path

import click

from ttt_bench_apm.commands import options


@click.command("reconstruct", short_help="The image, decoded from the field.")
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
    from ttt_bench_apm.analysis.figures import reconstruction_figure
    from ttt_bench_apm.self_supervised.targets import average_colours

    trained = options.load_trained(checkpoint, device)
    subject = options.load_subject(image, trained)
    sizes, name = trained.network.sizes, options.name_of(image)
    wanted = average_colours(subject.image[None], sizes.patch)[0].cpu().numpy()
    decoded = subject.ask(subject.grid(sizes.grid)).rgb.cpu().numpy()
    finer = subject.ask(subject.grid(fine)).rgb.cpu().numpy()
    squared = ((decoded - wanted) ** 2).mean(1)
    flat = ((wanted - wanted.mean(0)) ** 2).mean()
    said = f"mean squared error {squared.mean():.4f}, of the image's one mean colour {flat:.4f}"
    figure = reconstruction_figure(
        subject.photograph, subject.seen, wanted, decoded.clip(0, 1), np.sqrt(squared),
        finer.clip(0, 1), f"{name} reconstructed: {said}",
    )  # fmt: skip
    click.echo(said)
    click.echo(save_figure(figure, output / f"{name}-reconstruction.png"))
