"""`ttt-bench apm video-islands`."""

from pathlib import Path
from typing import Any

import click

from ttt_bench_apm.commands import options

EMBEDDED, EMBEDDED_SIDE = "tiny-clip", 128


@click.command("video-islands", short_help="Islands from a boring video: an early block's tokens.")
@options.image
@click.option("--backbone", "-b", default=EMBEDDED, show_default=True,
              help="video:mvit_v2_s is the experiment itself; timm:mvitv2_tiny and any other image "
                   "model with blocks sees a single frame.")  # fmt: skip
@options.weights
@click.option("--untrained", is_flag=True, help="Take random weights (video: and timm: models).")
@click.option("--block", "blocks", type=click.IntRange(min=1), multiple=True, default=(1, 2),
              show_default=True, help="Whose tokens, counted from 1; may be repeated.")  # fmt: skip
@click.option("--side", type=click.IntRange(min=1),
              help="Pixels per side, for image models that take it.  [default: 128 for tiny-clip, "
                   "else the model's own]")  # fmt: skip
@click.option("--reduction", type=click.Choice(["tsne", "pca"]), default="tsne",
              show_default=True, help="From tokens to colours; pca is quick.")  # fmt: skip
@options.seed
@options.device
@options.output
def video_islands(
    image: Path | None,
    backbone: str,
    weights: Path | None,
    untrained: bool,
    blocks: tuple[int, ...],
    side: int | None,
    reduction: Any,
    seed: int,
    device: str,
    output: Path,
) -> None:
    """Repeat IMAGE along time, and colour the tokens of one frame after an early block.

    The experiment is with MViTv2 on video (video:mvit_v2_s, torchvision's, trained on Kinetics-400;
    its weights are downloaded once). Image models see the image as their one frame.
    """
    import torch

    from ttt_bench import UserError, choose_device
    from ttt_bench_apm.analysis.block_tokens import FRAMES, VIDEO, image_tokens, video_tokens
    from ttt_bench_apm.analysis.drawing import Panel, draw, on_grid, save_figure
    from ttt_bench_apm.analysis.reduction import reduce_fields
    from ttt_bench_apm.self_supervised.images import square
    from ttt_bench_apm.self_supervised.photograph import to_array

    if untrained and weights is not None:
        raise UserError("--untrained and --weights exclude each other; give one")
    photograph, name = options.open_subject(image), options.name_of(image)
    if backbone.startswith(VIDEO):
        where = torch.device(choose_device(device))
        grids = video_tokens(backbone, photograph, blocks, where, weights, untrained)
        seen = f"{FRAMES} times the same frame"
    else:
        side = side or (EMBEDDED_SIDE if backbone == EMBEDDED else None)
        grids = image_tokens(backbone, photograph, blocks, device, side, weights, untrained)
        seen = "an image model, one frame"
    method = {"tsne": "t-SNE", "pca": "PCA"}[reduction]
    panels = [Panel("input", to_array(square(photograph, min(photograph.size)) / 255))]
    for block, grid in zip(blocks, grids, strict=True):
        (colours,) = reduce_fields([grid.flatten(0, 1).numpy()], 3, reduction, seed)
        rows, columns, _ = grid.shape
        panels.append(Panel(f"block {block}, {rows}x{columns} tokens", on_grid(colours)))
    kind = f"{backbone}{', untrained' if untrained else ''}"
    figure = draw([panels], f"{method} of early tokens of {kind} ({seen})")
    stem = f"{name}-{backbone.replace(':', '-').replace('/', '-')}"
    click.echo(save_figure(figure, output / f"{stem}-tokens.png"))
