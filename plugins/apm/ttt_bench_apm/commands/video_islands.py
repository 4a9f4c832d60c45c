"""`ttt-bench apm video-islands`."""

from pathlib import Path
from typing import Any

import click

from ttt_bench_apm.commands import options

EMBEDDED, EMBEDDED_SIDE = "tiny-clip", 128


@click.command("video-islands", short_help="Draw an early block's tokens of a still video.")
@options.image
@click.option("--backbone", "-b", default=EMBEDDED, show_default=True,
              help="Model with transformer blocks: video:mvit_v2_s as in the original experiment, "
                   "or an image model, such as timm:mvitv2_tiny.")  # fmt: skip
@options.weights
@click.option("--untrained", is_flag=True,
              help="Take random weights, for video: and timm: models.")  # fmt: skip
@click.option("--block", "blocks", type=click.IntRange(min=1), multiple=True, default=(1, 2),
              show_default=True,
              help="Block after which tokens are taken, counted from 1. May be repeated.",
              )  # fmt: skip
@click.option("--side", type=click.IntRange(min=1),
              help="Side in pixels of the image, for image models.  [default: 128 for tiny-clip, "
                   "the model's own for others]")  # fmt: skip
@options.reduction
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

    The original experiment is with MViTv2 on video: video:mvit_v2_s is torchvision's, trained on
    Kinetics-400, and its weights are downloaded once. Image models see the image as one frame.
    """
    import torch

    from ttt_bench import UserError, choose_device
    from ttt_bench_apm.analysis.block_tokens import FRAMES, VIDEO, image_tokens, video_tokens
    from ttt_bench_apm.analysis.drawing import Panel, draw, on_grid, save_figure
    from ttt_bench_apm.analysis.reduction import METHOD_NAMES, reduce_fields
    from ttt_bench_apm.self_supervised.images import square, to_array

    if untrained and weights is not None:
        raise UserError("--untrained and --weights exclude each other; give one")
    photograph, name = options.open_image(image), options.image_name(image)
    if backbone.startswith(VIDEO):
        video_device = torch.device(choose_device(device))
        grids = video_tokens(backbone, photograph, blocks, video_device, weights, untrained)
        frames = f"{FRAMES} times the same frame"
    else:
        side = side or (EMBEDDED_SIDE if backbone == EMBEDDED else None)
        grids = image_tokens(backbone, photograph, blocks, device, side, weights, untrained)
        frames = "an image model, one frame"
    panels = [Panel("input", to_array(square(photograph, min(photograph.size)) / 255))]
    for block, grid in zip(blocks, grids, strict=True):
        rows, columns, _ = grid.shape
        # (rows, columns, D) -> (rows*columns, D)
        (colours,) = reduce_fields([grid.flatten(0, 1).numpy()], 3, reduction, seed)
        panels.append(Panel(f"block {block}, {rows}x{columns} tokens", on_grid(colours)))
    model = f"{backbone}{', untrained' if untrained else ''}"
    heading = f"{METHOD_NAMES[reduction]} of early tokens of {model} ({frames})"
    stem = f"{name}-{backbone.replace(':', '-').replace('/', '-')}"
    click.echo(save_figure(draw([panels], heading), output / f"{stem}-tokens.png"))
