"""`ttt-bench ttt-mae`: train autoencoders and the classifiers on them."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ttt_bench import Dataset, TrainingRun
    from ttt_bench_ttt_mae.training import Schedule

Command = TypeVar("Command", bound=Callable[..., Any])
RECIPES = ("vit-probe", "fine-tune", "joint-train")


@click.group("ttt-mae", short_help="Train masked autoencoders and the heads on them.")
def ttt_mae() -> None:
    """Train the checkpoints of ttt-mae, vit-probe, fine-tune and joint-train.

    The commands use a dataset's training images alone. The state is saved in --output after every
    epoch, and the same command continues a training that was stopped.
    """


def _options(command: Command) -> Command:
    for option in reversed((
        click.option("--dataset", "-d", required=True,
                     help="Dataset whose training images to learn from."),
        click.option("--data-root", type=click.Path(path_type=Path), envvar="TTT_BENCH_DATA",
                     help="Folder to look for datasets in.  [env: TTT_BENCH_DATA]"),
        click.option("--output", "-o", required=True, type=click.Path(path_type=Path),
                     help="Folder for model.pth, the log and the state."),
        click.option("--epochs", type=click.IntRange(min=1),
                     help="Passes over the training images.  [default: the recipe's]"),
        click.option("--batch-size", type=click.IntRange(min=1),
                     help="Images in a step.  [default: the recipe's]"),
        click.option("--base-lr", type=click.FloatRange(min=0, min_open=True),
                     help="Highest learning rate for every 256 images in a step.  [default: the "
                          "recipe's]"),
        click.option("--weight-decay", type=click.FloatRange(min=0),
                     help="Weight decay of AdamW.  [default: the recipe's]"),
        click.option("--warm-up", type=click.IntRange(min=0),
                     help="Epochs over which the learning rate rises.  [default: the recipe's]"),
        click.option("--min-crop", type=click.FloatRange(min=0, max=1, min_open=True),
                     help="Smallest share of an image's area that a crop shows.  [default: the "
                          "recipe's]"),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                     help="Seed of every random draw."),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]),
                     default="auto", show_default=True, help="Device to compute on."),
        click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True,
                     help="Processes that decode and crop images; 0 does it in this one."),
    )):  # fmt: skip
        command = option(command)
    return command


@ttt_mae.command("pretrain", short_help="Train a masked autoencoder without labels.")
@_options
@click.option("--size", type=click.Choice(["tiny", "base", "large", "huge"]),
              help="Size of the autoencoder; tiny takes images of 32 pixels, the others of 224.  "
                   "[default: that of the dataset's default backbone]")  # fmt: skip
def pretrain_command(size: str | None, **options: Any) -> None:
    """Train a masked autoencoder without labels, by MAE's recipe (800 epochs)."""
    from ttt_bench import default_backbone
    from ttt_bench_ttt_mae.family import MAE
    from ttt_bench_ttt_mae.recipes import pretrain

    tiny = default_backbone(options["dataset"], MAE) == "tiny-mae"
    size = size or ("tiny" if tiny else "large")
    dataset, run = _open_run("pretrain", {"size": size}, **options)
    pretrain(dataset, size, run)
    click.echo(f"{run.folder.model}: use it with --backbone mae:{run.folder.model}")


@ttt_mae.command("train", short_help="Train a classifier on labels.")
@_options
@click.option(
    "--recipe",
    type=click.Choice(RECIPES),
    required=True,
    help="Weights that learn, and their loss.",
)
@click.option("--backbone", "-b", help="Autoencoder to start from.  [default: the dataset's]")
@click.option("--head", type=click.Choice(["vit", "linear"]), default="vit", show_default=True,
              help="Kind of head: transformer blocks on all tokens, or a linear layer on "
                   "CLS.")  # fmt: skip
def train_command(recipe: Any, backbone: str | None, head: Any, **options: Any) -> None:
    """Train a classifier on labels.

    \b
    vit-probe    trains the head on the frozen encoder
    fine-tune    trains encoder and head
    joint-train  trains encoder, decoder and head, on labels and reconstruction
    """
    from ttt_bench import UserError, default_backbone, load_backbone
    from ttt_bench_ttt_mae.backbone import MAEBackbone
    from ttt_bench_ttt_mae.family import MAE
    from ttt_bench_ttt_mae.recipes import train

    name = backbone or default_backbone(options["dataset"], MAE)
    start = load_backbone(name, "cpu")
    if not isinstance(start, MAEBackbone):
        raise UserError(
            f"{name} is no masked autoencoder; give one with --backbone (see `ttt-bench list "
            "backbones`)"
        )
    settings = {"backbone": name, "backbone_weights": start.weights_hash(), "head": head}
    dataset, run = _open_run(recipe, settings, **options)
    train(dataset, start.network, recipe, head, run)
    model = run.folder.model
    use = f"--method {recipe} --backbone {name} --set {recipe}.checkpoint={model}"
    click.echo(f"{model}: use it with {use}")


def _open_run(
    recipe: str,
    settings: dict[str, Any],
    dataset: str,
    data_root: Path | None,
    output: Path,
    seed: int,
    device: str,
    workers: int,
    **given: Any,
) -> "tuple[Dataset, TrainingRun[Schedule]]":
    """Load the dataset and open the folder of a training.

    Args:
        recipe: a name of `RECIPES`.
        settings: what the folder's options hold besides dataset and schedule.
        dataset: name of the dataset.
        data_root: folder to look for it in.
        output: the training's folder.
        seed: seed of every random draw.
        device: the name of a device, or "auto".
        workers: processes that load images.
        given: values in place of the recipe's; None leaves the recipe's.

    Raises:
        UserError: the dataset has no training images, or the folder holds another training.
    """
    import torch

    from ttt_bench import TrainingFolder, TrainingRun, UserError, choose_device, load_dataset
    from ttt_bench_ttt_mae.recipes import RECIPES
    from ttt_bench_ttt_mae.training import Schedule

    images = load_dataset(dataset, data_root)
    if not images.training:
        raise UserError(
            f"{images.name} has no training images; take a dataset that has, or a folder with "
            "train/CLASS/IMAGE and test/CLASS/IMAGE"
        )
    values = asdict(RECIPES[recipe]) | {k: v for k, v in given.items() if v is not None}
    values["lr"] = values.pop("base_lr") * values["batch_size"] / 256
    schedule = Schedule(**values, seed=seed)
    options = {"recipe": recipe, "dataset": images.name, "images": len(images.training)}
    saved_schedule = {**asdict(schedule), "betas": list(schedule.betas)}
    run = TrainingRun(
        schedule=schedule,
        folder=TrainingFolder(output, {**options, **settings, **saved_schedule}),
        device=torch.device(choose_device(device)),
        workers=workers,
        report=lambda line: click.echo(line, err=True),
    )
    return images, run
