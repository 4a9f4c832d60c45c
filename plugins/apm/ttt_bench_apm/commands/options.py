"""What several commands ask for, and what they make of it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from PIL import Image

    from ttt_bench_apm.self_supervised.checkpoints import TrainedField
    from ttt_bench_apm.self_supervised.photograph import Subject
    from ttt_bench_apm.self_supervised.teacher import Teacher

Command = TypeVar("Command", bound=Callable[..., Any])
EMBEDDED_SET = "cifar10-c-mini"
# Of its clean images: a car and a horse, which one recognises at 32 pixels.
EMBEDDED_IMAGES = (8, 65)

image = click.argument("image", required=False, type=click.Path(path_type=Path))
output = click.option(
    "--output", "-o", type=click.Path(file_okay=False, path_type=Path), default=Path("apm-figures"),
    show_default=True, help="Folder for the files.",
)  # fmt: skip
checkpoint = click.option(
    "--checkpoint", "-c", type=click.Path(dir_okay=False, path_type=Path),
    help="Of `apm train`, or the authors' model_15.pth, instead of the embedded tiny-apm.",
)  # fmt: skip
device = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto",
    show_default=True, help="Where to compute.",
)  # fmt: skip
seed = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all random draws.",
)  # fmt: skip
fine = click.option(
    "--fine", type=click.IntRange(1, 1024), default=64, show_default=True,
    help="Locations per side of the finer picture.",
)  # fmt: skip
teacher = click.option(
    "--teacher", "-t", help="Instead of the one the checkpoint names; none leaves it out.",
)  # fmt: skip
weights = click.option(
    "--weights", type=click.Path(dir_okay=False, path_type=Path),
    help="A local file of weights for the backbone.",
)  # fmt: skip


def open_subject(path: Path | None, number: int = 0) -> "Image.Image":
    """The photograph at a path, or an embedded one.

    Raises:
        UserError: it cannot be read.
    """
    from ttt_bench import load_dataset
    from ttt_bench_apm.self_supervised.images import open_upright

    if path is not None:
        return open_upright(path)
    dataset = load_dataset(EMBEDDED_SET)
    clean = [place for place, entry in enumerate(dataset.entries) if entry.group == "clean"]
    return dataset.open(clean[EMBEDDED_IMAGES[number]])


def name_of(path: Path | None, number: int = 0) -> str:
    """What a photograph is called in headings and names of files."""
    return path.stem if path else f"embedded-{number + 1}"


def load_trained(path: Path | None, device: str) -> "TrainedField":
    """A checkpoint on a device; what it holds besides is said on standard error."""
    from ttt_bench import choose_device
    from ttt_bench_apm.self_supervised.checkpoints import load_field

    trained = load_field(path, choose_device(device))
    if trained.unused:
        click.echo(f"{path}: entries not used: {', '.join(trained.unused)}", err=True)
    return trained


def load_subject(path: Path | None, trained: "TrainedField", number: int = 0) -> "Subject":
    """A photograph as a network sees it."""
    from ttt_bench_apm.self_supervised.photograph import Subject

    return Subject(open_subject(path, number), trained.network)


def load_teacher(
    name: str | None, weights: Path | None, trained: "TrainedField", device: str
) -> "Teacher | None":
    """The teacher that is asked for, or the one that a checkpoint names; None for `none`.

    Raises:
        UserError: it is not known or cannot be had, or its features have another size.
    """
    from ttt_bench import UserError, load_backbone
    from ttt_bench_apm.self_supervised.teacher import Teacher

    name = name or trained.about.get("teacher")
    if name is None:
        raise UserError("the checkpoint does not name its teacher; give --teacher, or none")
    if name == "none":
        return None
    own = trained.about.get("teacher_side") if name == trained.about.get("teacher") else None
    teacher = Teacher(name, load_backbone(name, device, weights), own)
    if teacher.features != trained.network.sizes.features:
        raise UserError(
            f"{name}: its patch features have {teacher.features} numbers, the checkpoint's "
            f"{trained.network.sizes.features}; give the teacher it was trained with, or none"
        )
    return teacher
