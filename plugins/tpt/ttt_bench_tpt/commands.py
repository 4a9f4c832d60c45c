"""`ttt-bench tpt`: learn the prompts that `coop`, `cocoop` and TPT use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("tpt", short_help="Learn prompts with CoOp or CoCoOp.")
def tpt() -> None:
    """Learn prompts from a few labelled training images, for coop, cocoop and TPT from them.

    The state is saved after every epoch in OUTPUT.training, and the same command continues a
    training that was stopped. The folder is removed when the prompt is written.
    """


def _options(epochs: int) -> Callable[[Command], Command]:
    """Return the decorator with the options of a training, by default of so many epochs."""

    def decorate(command: Command) -> Command:
        for option in reversed((
            click.option("--dataset", "-d", required=True,
                         help="Dataset whose training images to learn from."),
            click.option("--backbone", "-b",
                         help="Dual encoder to learn for.  [default: the dataset's]"),
            click.option("--shots", type=click.IntRange(min=1), default=16, show_default=True,
                         help="Labelled images per class."),
            click.option("--epochs", type=click.IntRange(min=2), default=epochs,
                         show_default=True, help="Passes over the labelled images."),
            click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                         help="Seed of every random draw."),
            click.option("--data-root", type=click.Path(path_type=Path), envvar="TTT_BENCH_DATA",
                         help="Folder to look for datasets in.  [env: TTT_BENCH_DATA]"),
            click.option("--output", "-o", required=True,
                         type=click.Path(dir_okay=False, path_type=Path),
                         help="File to write the learned prompt to."),
        )):  # fmt: skip
            command = option(command)
        return command

    return decorate


@tpt.command("train-coop", short_help="Learn one context for all images.")
@_options(epochs=50)
def train_coop(**options: Any) -> None:
    """Learn one context for all images, by CoOp's recipe."""
    _train(conditional=False, **options)


@tpt.command("train-cocoop", short_help="Learn a context that depends on the image.")
@_options(epochs=10)
def train_cocoop(**options: Any) -> None:
    """Learn a context and the network that shifts it for each image, by CoCoOp's recipe."""
    _train(conditional=True, **options)


def _train(
    conditional: bool,
    dataset: str,
    backbone: str | None,
    shots: int,
    seed: int,
    data_root: Path | None,
    output: Path,
    epochs: int,
) -> None:
    from ttt_bench import (
        DualEncoder,
        TrainingFolder,
        TrainingRun,
        UserError,
        default_backbone,
        load_backbone,
        load_dataset,
    )
    from ttt_bench_tpt.checkpoints import save_prompt
    from ttt_bench_tpt.training import PromptSchedule, learn

    labelled = load_dataset(dataset, data_root)
    name = backbone or default_backbone(dataset)
    model = load_backbone(name)
    if not isinstance(model, DualEncoder):
        raise UserError(
            f"{name} has no text tower; give a dual encoder (see `ttt-bench list backbones`)"
        )
    schedule = PromptSchedule(conditional=conditional, shots=shots, epochs=epochs, seed=seed)
    about = {
        "method": "cocoop" if conditional else "coop",
        "dataset": labelled.name,
        "backbone": name,
        "backbone_weights": model.card()["weights"],
        "shots": shots,
        "seed": seed,
        "epochs": epochs,
    }
    run = TrainingRun(
        schedule=schedule,
        folder=TrainingFolder(output.with_name(f"{output.name}.training"), about),
        device=model.device,
        workers=0,
        report=lambda line: click.echo(line, err=True),
    )
    save_prompt(learn(labelled, model, run), output, about)
    run.folder.remove()
    click.echo(f"{output}: use it with --set checkpoint={output}")
