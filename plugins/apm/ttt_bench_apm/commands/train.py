"""`ttt-bench apm train`."""

from pathlib import Path
from typing import Any

import click

from ttt_bench_apm.commands import options

RELEASED = "timm:vit_large_patch14_reg4_dinov2"


@click.command("train", short_help="Train the self-supervised APM on a folder of photographs.")
@click.option("--images", required=True, type=click.Path(path_type=Path),
              help="Folder of photographs, searched to any depth.")  # fmt: skip
@click.option("--output", "-o", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for the model, the log and the saved state.")  # fmt: skip
@click.option("--teacher", "-t", default=RELEASED, show_default=True,
              help="Backbone that gives patch features.")  # fmt: skip
@options.weights
@click.option("--teacher-side", type=click.IntRange(min=1),
              help="Side in pixels of the teacher's image.  [default: 448 for the default "
                   "teacher, the teacher's own for others]")  # fmt: skip
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for the teacher's features.  [default: OUTPUT/cache]")  # fmt: skip
@click.option("--grid", type=click.IntRange(min=2), default=32, show_default=True,
              help="Cells of the trigger per side.")  # fmt: skip
@click.option("--patch", type=click.IntRange(min=1), default=14, show_default=True,
              help="Side in pixels of a cell.")  # fmt: skip
@click.option("--channels", type=click.IntRange(min=1), default=1, show_default=True,
              help="Numbers of the trigger for each cell.")  # fmt: skip
@click.option("--widths", default="4096,4096,4096,2048,1024", show_default=True,
              help="Widths of the hidden layers, separated by commas.")  # fmt: skip
@click.option("--code", type=click.IntRange(min=4), default=1024, show_default=True,
              help="Size of the position code, a multiple of 4.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), default=15, show_default=True,
              help="Passes over the photographs.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True,
              help="Photographs in a training step.")  # fmt: skip
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=1e-4, show_default=True,
              help="Learning rate of Adam.")  # fmt: skip
@click.option("--schedule", type=click.Choice(["constant", "cosine"]), default="constant",
              show_default=True,
              help="Learning rate over time; cosine falls to zero.")  # fmt: skip
@click.option("--locations", type=click.IntRange(min=0), default=0, show_default=True,
              help="Random locations queried in a training step; 0 queries the whole grid.",
              )  # fmt: skip
@click.option("--held-out", type=click.IntRange(min=1), default=512, show_default=True,
              help="Photographs for the validation error, at most a fifth of all.")  # fmt: skip
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True,
              help="Processes that load the photographs.")  # fmt: skip
@options.seed
@options.device
def train(
    images: Path,
    output: Path,
    teacher: str,
    weights: Path | None,
    teacher_side: int | None,
    cache: Path | None,
    grid: int,
    patch: int,
    channels: int,
    widths: str,
    code: int,
    held_out: int,
    workers: int,
    device: str,
    **recipe: Any,
) -> None:
    """Train APM to predict a teacher's patch features and the image's colours.

    The teacher computes its features of every photograph once; they are kept in --cache. Defaults
    are the released sizes and rates. The state is saved during the training, and the same command
    continues a training that was stopped. With TensorBoard installed, OUTPUT/tensorboard has the
    curves.
    """
    from dataclasses import asdict

    import torch

    from ttt_bench import (
        TrainingFolder,
        TrainingRun,
        UserError,
        choose_device,
        load_backbone,
        seeded,
    )
    from ttt_bench_apm.self_supervised.images import PhotographFolder
    from ttt_bench_apm.self_supervised.network import FieldSizes, PerceptionField
    from ttt_bench_apm.self_supervised.shards import extract_features
    from ttt_bench_apm.self_supervised.teacher import Teacher
    from ttt_bench_apm.self_supervised.training import Recipe, split
    from ttt_bench_apm.self_supervised.training import train as train_field

    def report(line: str) -> None:
        click.echo(line, err=True)

    try:
        layers = tuple(int(width) for width in widths.split(","))
    except ValueError:
        layers = ()
    if not layers or min(layers) < 1:
        raise UserError(f"--widths {widths!r} is not a list of whole numbers, such as 512,256")
    if code % 4:
        raise UserError(
            f"--code {code} is not a multiple of 4; half of it is for the column, half for the row"
        )
    photographs = PhotographFolder(images)
    training, held_out_numbers = split(len(photographs.names), held_out, recipe["seed"])
    network_device = torch.device(choose_device(device))
    side = teacher_side or (grid * patch if teacher == RELEASED else None)
    model = Teacher(teacher, load_backbone(teacher, device, weights), side)
    sizes = FieldSizes(grid, patch, channels, code, layers, model.features)
    chosen = Recipe(**recipe)
    recorded = {
        "teacher": teacher,
        "teacher_weights": model.backbone.weights_hash(),
        "teacher_side": model.side,
        "images": f"{len(training)} photographs, {len(held_out_numbers)} held out",
        **{**asdict(sizes), "widths": list(sizes.widths)},
        **asdict(chosen),
    }
    folder = TrainingFolder(output, recorded)
    shards = extract_features(photographs, model, sizes.image, cache or output / "cache", report)
    with seeded(chosen.seed):
        network = PerceptionField(sizes).to(network_device)
    run = TrainingRun(
        schedule=chosen, folder=folder, device=network_device, workers=workers, report=report
    )
    train_field(network, shards, training, held_out_numbers, run)
    click.echo(f"{folder.model}: use it with --checkpoint {folder.model}")
