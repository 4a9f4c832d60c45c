"""Options that several commands share, and the objects that these options name."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from PIL import Image

    from ttt_bench_apm.self_supervised.checkpoints import TrainedField
    from ttt_bench_apm.self_supervised.photograph import Photograph
    from ttt_bench_apm.self_supervised.teacher import Teacher

Command = TypeVar("Command", bound=Callable[..., Any])
EMBEDDED_DATASET = "cifar10-c-mini"
# A car and a horse among its clean images, which can be recognised at 32 pixels.
EMBEDDED_IMAGES = (8, 65)

image = click.argument("image", required=False, type=click.Path(path_type=Path))
output = click.option(
    "--output", "-o", type=click.Path(file_okay=False, path_type=Path), default=Path("apm-figures"),
    show_default=True, help="Folder for the results.",
)  # fmt: skip
checkpoint = click.option(
    "--checkpoint", "-c", type=click.Path(dir_okay=False, path_type=Path),
    help="Trained network: a file of `ttt-bench apm train`, or the authors' model_15.pth.  "
         "[default: the embedded tiny-apm]",
)  # fmt: skip
device = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto",
    show_default=True, help="Device to compute on.",
)  # fmt: skip
seed = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True,
    help="Seed of every random draw.",
)  # fmt: skip
fine = click.option(
    "--fine", type=click.IntRange(1, 1024), default=64, show_default=True,
    help="Locations per side of the finer grid.",
)  # fmt: skip
teacher = click.option(
    "--teacher", "-t",
    help="Backbone whose patch features the network has learned; none leaves it out.  "
         "[default: the one that the checkpoint names]",
)  # fmt: skip
weights = click.option(
    "--weights", type=click.Path(dir_okay=False, path_type=Path),
    help="File of weights for the backbone, in the safetensors format or torch's.",
)  # fmt: skip
reduction = click.option(
    "--reduction", type=click.Choice(["tsne", "pca"]), default="tsne", show_default=True,
    help="Reduction of features to colours; pca is quick.",
)  # fmt: skip


def open_image(path: Path | None, number: int = 0) -> "Image.Image":
    """Open the photograph at a path, or an embedded one.

    Args:
        path: the file; None for an embedded photograph.
        number: the number of the embedded photograph, from 0.

    Raises:
        UserError: the file cannot be read as an image.
    """
    from ttt_bench import load_dataset
    from ttt_bench_apm.self_supervised.images import open_upright

    if path is not None:
        return open_upright(path)
    dataset = load_dataset(EMBEDDED_DATASET)
    clean = [index for index, entry in enumerate(dataset.entries) if entry.group == "clean"]
    return dataset.open(clean[EMBEDDED_IMAGES[number]])


def image_name(path: Path | None, number: int = 0) -> str:
    """Return the name of a photograph in headings and file names; see `open_image`."""
    return path.stem if path else f"embedded-{number + 1}"


def load_trained(path: Path | None, device: str) -> "TrainedField":
    """Load a checkpoint onto a device, and list its unused entries on standard error.

    Args:
        path: the file; None for the embedded tiny-apm.
        device: the option `--device`.

    Raises:
        UserError: it is not a checkpoint of the self-supervised APM.
    """
    from ttt_bench import choose_device
    from ttt_bench_apm.self_supervised.checkpoints import load_field

    trained = load_field(path, choose_device(device))
    if trained.unused:
        click.echo(f"{path}: entries not used: {', '.join(trained.unused)}", err=True)
    return trained


def load_photograph(path: Path | None, trained: "TrainedField", number: int = 0) -> "Photograph":
    """Open a photograph and put it before a trained network; see `open_image`."""
    from ttt_bench_apm.self_supervised.photograph import Photograph

    return Photograph(open_image(path, number), trained.network)


def load_teacher(
    name: str | None, weights: Path | None, trained: "TrainedField", device: str
) -> "Teacher | None":
    """Load the teacher that is asked for, or the one that a checkpoint names.

    Args:
        name: the option `--teacher`.
        weights: a file of weights; None for the backbone's own.
        trained: the trained network.
        device: the option `--device`.

    Returns:
        None for `--teacher none`.

    Raises:
        UserError: it cannot be loaded, or its features have another size than the network's.
    """
    from ttt_bench import UserError, load_backbone
    from ttt_bench_apm.self_supervised.teacher import Teacher

    recorded = trained.about.get("teacher")
    name = name or recorded
    if name is None:
        raise UserError("the checkpoint does not name its teacher; give --teacher, or none")
    if name == "none":
        return None
    side = trained.about.get("teacher_side") if name == recorded else None
    teacher = Teacher(name, load_backbone(name, device, weights), side)
    if teacher.features != trained.network.sizes.features:
        raise UserError(
            f"{name}: its patch features have {teacher.features} numbers, the checkpoint's "
            f"{trained.network.sizes.features}; give the teacher it was trained with, or none"
        )
    return teacher
