"""`ttt-bench tpt`: learn the prompts that `coop` and `cocoop` use."""

from pathlib import Path
from typing import Any

import click


@click.group("tpt", short_help="Learn prompts with CoOp or CoCoOp.")
def tpt() -> None:
    """Learn prompts from a few labelled training images, for coop, cocoop and TPT from them."""


def _options(command: Any) -> Any:
    for option in (
        click.option("--dataset", "-d", required=True, help="Whose training images to learn from."),
        click.option("--backbone", "-b", help="Instead of the dataset's default."),
        click.option(
            "--shots",
            type=click.IntRange(min=1),
            default=16,
            show_default=True,
            help="Labelled images per class.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Of every random draw.",
        ),
        click.option(
            "--data-root",
            type=click.Path(path_type=Path),
            envvar="TTT_BENCH_DATA",
            help="Where datasets are looked for.  [env: TTT_BENCH_DATA]",
        ),
        click.option(
            "--output",
            "-o",
            required=True,
            type=click.Path(dir_okay=False, path_type=Path),
            help="The checkpoint to write.",
        ),
    ):
        command = option(command)
    return command


@tpt.command("train-coop")
@_options
@click.option("--epochs", type=click.IntRange(min=2), default=50, show_default=True)
def train_coop(**options: Any) -> None:
    """Learn one context for all images, by CoOp's recipe."""
    _train(conditional=False, **options)


@tpt.command("train-cocoop")
@_options
@click.option("--epochs", type=click.IntRange(min=2), default=10, show_default=True)
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
        UserError,
        default_backbone,
        load_backbone,
        load_dataset,
    )
    from ttt_bench_tpt.checkpoints import save_prompt
    from ttt_bench_tpt.training import learn

    data = load_dataset(dataset, data_root)
    name = backbone or default_backbone(dataset)
    model = load_backbone(name)
    if not isinstance(model, DualEncoder):
        raise UserError(f"{name} has no text tower; see `ttt-bench list backbones`")

    def report(epoch: int, loss: float) -> None:
        click.echo(f"epoch {epoch}/{epochs}  loss {loss:.4f}", err=True)

    prompt = learn(data, model, shots, seed, epochs, conditional, report)
    about = {
        "method": "cocoop" if conditional else "coop",
        "dataset": data.name,
        "backbone": name,
        "backbone_weights": model.card()["weights"],
        "shots": shots,
        "seed": seed,
        "epochs": epochs,
    }
    save_prompt(prompt, output, about)
    click.echo(f"{output}: use it with --set checkpoint={output}")
