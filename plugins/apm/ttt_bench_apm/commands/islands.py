"""`ttt-bench apm islands`."""

from pathlib import Path
from typing import Any

import click

from ttt_bench_apm.commands import options


@click.command("islands", short_help="The feature field while one token is overfitted.")
@options.image
@click.option("--backbone", "-b", default="tiny-clip", show_default=True,
              help="The teacher, whose feature of the whole image is the token.")  # fmt: skip
@options.weights
@click.option("--steps", type=click.IntRange(min=1), default=60, show_default=True,
              help="Adam steps.")  # fmt: skip
@click.option("--every", type=click.IntRange(min=1), default=12, show_default=True,
              help="Steps between two pictures.")  # fmt: skip
@click.option("--grid", type=click.IntRange(min=2), default=32, show_default=True,
              help="Locations per side, an even number.")  # fmt: skip
@click.option("--patch", type=click.IntRange(min=1), default=14, show_default=True,
              help="Pixels per side of a location's patch.")  # fmt: skip
@click.option("--widths", nargs=3, type=click.IntRange(min=1), default=(1024, 512, 256),
              show_default=True, help="Hidden layers; the release has 4096 2048 1024.")  # fmt: skip
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=1e-4, show_default=True,
              help="Adam's learning rate.")  # fmt: skip
@click.option("--reduction", type=click.Choice(["tsne", "pca"]), default="tsne",
              show_default=True, help="From features to shades; pca is quick.")  # fmt: skip
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
    """Fit one network to one feature of IMAGE, as test-time training does, and draw its field.

    A figure and an animation: the field in one dimension (shades) and in three (colours) as the
    steps go, the loss, and the input. Beside them is the last field of the same weights without the
    image: what is there too comes from positions alone, and its share is printed.
    """
    import torch

    from ttt_bench import UserError, choose_device, load_backbone
    from ttt_bench_apm.analysis.drawing import save_animation, save_figure
    from ttt_bench_apm.analysis.figures import islands_figures
    from ttt_bench_apm.analysis.islands import overfit
    from ttt_bench_apm.analysis.reduction import reduce_fields
    from ttt_bench_apm.methods.apm_network import Network, Sizes
    from ttt_bench_apm.self_supervised.images import to_unit_range
    from ttt_bench_apm.self_supervised.photograph import to_array

    model = load_backbone(backbone, device, weights)
    where = torch.device(choose_device(device))
    if grid % 2 or model.feature_dim % 32:
        raise UserError(
            f"islands: --grid {grid} must be even, and the backbone's features (of size "
            f"{model.feature_dim}) a multiple of 32"
        )
    photograph, name = options.open_subject(image), options.name_of(image)
    sizes = Sizes(grid, patch, widths, model.feature_dim, heads=8)
    network = Network(sizes, where)
    drawn = network.draw([torch.Generator().manual_seed(seed)], 0.01, where)
    pixels = model.preprocess(photograph, grid * patch).to(where)
    with torch.no_grad():
        target = model.encode_image(model.preprocess(photograph)[None].to(where))[0]
    seen = overfit(network, drawn, pixels, target, steps, every, lr)
    fields = [field.numpy() for field in (*seen.fields, seen.without_image)]
    shades, colours = (
        reduce_fields(fields, dimensions, reduction, seed, axes_of=-2) for dimensions in (1, 3)
    )
    method = {"tsne": "t-SNE", "pca": "PCA"}[reduction]
    figure, frames = islands_figures(
        seen, shades, colours, to_array(to_unit_range(pixels[None])[0]), method,
        f"{name}, one token of {backbone}",
    )  # fmt: skip
    click.echo(f"loss {seen.losses[0]:.4g} before the first step, {seen.losses[-1]:.4g} at the end")
    share = 100 * seen.position_share
    click.echo(f"{share:.1f} % of the last field's variance is there without the image too")
    stem = output / f"{name}-islands"
    click.echo(save_figure(figure, stem.with_suffix(".png")))
    click.echo(save_animation(frames, stem.with_suffix(".gif"), milliseconds=700))
