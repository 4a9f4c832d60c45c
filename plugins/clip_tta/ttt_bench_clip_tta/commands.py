"""`ttt-bench clip-tta`: choose the temperature of the control `temperature`."""

from pathlib import Path

import click


@click.group("clip-tta", short_help="Choose the temperature of a control.")
def clip_tta() -> None:
    """Choose the temperature of the control `temperature` on labelled images."""


@clip_tta.command("choose-temperature", short_help="Choose the temperature of a control.")
@click.option(
    "--dataset",
    "-d",
    required=True,
    help="Labelled images to choose on, such as cifar10-c-mini:validation; no test set.",
)
@click.option("--backbone", "-b", help="Dual encoder to choose for.  [default: the dataset's]")
@click.option("--data-root", type=click.Path(path_type=Path), envvar="TTT_BENCH_DATA",
              help="Folder to look for datasets in.  [env: TTT_BENCH_DATA]")  # fmt: skip
def choose_temperature(dataset: str, backbone: str | None, data_root: Path | None) -> None:
    """Print the temperature under which zero-shot confidences fit the labels of a dataset best.

    The images may be corrupted as those of the test are, but none of them may be a test image.
    """
    from ttt_bench import default_backbone, load_backbone, load_dataset
    from ttt_bench_clip_tta.choosing import choose

    labelled = load_dataset(dataset, data_root)
    name = backbone or default_backbone(dataset)
    choice = choose(labelled, load_backbone(name))
    click.echo(
        f"{name} on {labelled.name}: --set temperature={choice.temperature:.4g} (negative "
        f"log-likelihood {choice.after:.4f} in place of {choice.before:.4f} on {choice.images} "
        "images)"
    )
