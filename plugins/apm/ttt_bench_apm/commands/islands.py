"""`ttt-bench apm islands`."""

from pathlib import Path
from typing import Any

import click

from ttt_bench_apm.commands import options


@click.command("islands", short_help="Draw the feature field while test-time training goes on.")
@options.image
@click.option("--backbone", "-b", default="tiny-clip", show_default=True,
              help="Backbone whose feature of the whole image the network learns.")  # fmt: skip
@options.weights
@click.option("--steps", type=click.IntRange(min=1), default=60, show_default=True,
              help="Number of Adam steps.")  # fmt: skip
@click.option("--every", type=click.IntRange(min=1), default=12, show_default=True,
              help="Steps between two pictures.")  # fmt: skip
@click.option("--grid", type=click.IntRange(min=2), default=32, show_default=True,
              help="Locations per side, an even number.")  # fmt: skip
@click.option("--patch", type=click.IntRange(min=1), default=14, show_default=True,
              help="Side in pixels of a location's patch.")  # fmt: skip
@click.option("--widths", nargs=3, type=click.IntRange(min=1), default=(1024, 512, 256),
              show_default=True,
              help="Widths of the hidden layers; the release has 4096 2048 1024.")  # fmt: skip
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=1e-4, show_default=True,
              help="Learning rate of Adam.")  # fmt: skip
@options.reduction
@options.seed
@options.device
@options.output
def islands(
    image: Path | None,
    backbone: str,
    weights: Path | None,
    steps: int,
    every: int,
    grid: int,
    patch: int,
    widths: tuple[int, int, int],
    lr: float,
    reduction: Any,
    seed: int,
    device: str,
    output: Path,
) -> None:
    """Train one network on one feature of IMAGE, as test-time training does, and draw its field.

    The results are a figure and an animation: the field in one dimension (shades) and in three
    (colours) at several steps, the loss, and the input. The last column is the field of the final
    weights without the image, which depends on positions alone; its share is printed.
    """
    import torch

    from ttt_bench import choose_device, load_backbone
    from ttt_bench_apm.analysis.drawing import save_animation, save_figure
    from ttt_bench_apm.analysis.figures import islands_figures
    from ttt_bench_apm.analysis.islands import watch_training
    from ttt_bench_apm.analysis.reduction import METHOD_NAMES, reduce_fields
    from ttt_bench_apm.methods.apm import APMConfig
    from ttt_bench_apm.methods.apm_network import Network, Sizes
    from ttt_bench_apm.self_supervised.images import to_array, to_unit_range

    defaults = APMConfig()
    model = load_backbone(backbone, device, weights)
    network_device = torch.device(choose_device(device))
    sizes = Sizes(grid, patch, widths, model.feature_dim, defaults.heads)
    network = Network(sizes, network_device)
    drawn = network.draw([torch.Generator().manual_seed(seed)], defaults.init_std)
    photograph, name = options.open_image(image), options.image_name(image)
    pixels = model.preprocess(photograph, grid * patch).to(network_device)  # (3, S, S)
    with torch.no_grad():
        target = model.encode_image(model.preprocess(photograph)[None].to(network_device))[0]
    training = watch_training(network, drawn, pixels, target, steps, every, lr)
    fields = [field.numpy() for field in (*training.fields, training.without_image)]
    # PCA takes the axes of the last field with the image.
    shades, colours = (
        reduce_fields(fields, dimensions, reduction, seed, axes_of=-2) for dimensions in (1, 3)
    )
    figure, frames = islands_figures(
        training, shades, colours, to_array(to_unit_range(pixels[None])[0]),
        METHOD_NAMES[reduction], f"{name}, one feature of {backbone}",
    )  # fmt: skip
    first, last = training.losses[0], training.losses[-1]
    click.echo(f"loss {first:.4g} before the first step, {last:.4g} after the last")
    share = 100 * training.position_share
    click.echo(f"{share:.1f} % of the last field's variance is there without the image too")
    click.echo(save_figure(figure, output / f"{name}-islands.png"))
    click.echo(save_animation(frames, output / f"{name}-islands.gif", milliseconds=700))
