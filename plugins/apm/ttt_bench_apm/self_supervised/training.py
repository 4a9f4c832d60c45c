"""The training of the self-supervised APM on a teacher's patch features."""

import importlib.util
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import cos, inf, pi
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader

from ttt_bench import Epoch, TrainingRun, UserError
from ttt_bench_apm.self_supervised.checkpoints import save_field
from ttt_bench_apm.self_supervised.images import to_unit_range
from ttt_bench_apm.self_supervised.locations import Locations, lattice
from ttt_bench_apm.self_supervised.network import PerceptionField
from ttt_bench_apm.self_supervised.shards import Shards
from ttt_bench_apm.self_supervised.targets import (
    average_colours,
    colours_at,
    features_at,
    random_locations,
)
from ttt_bench_apm.self_supervised.validation import Validation


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The values of a training; the defaults are the release's, except for the number of epochs.

    Attributes:
        epochs: passes over the photographs.
        batch_size: photographs in a step.
        lr: Adam's learning rate at the start.
        schedule: the learning rate is constant, or falls to zero by a cosine.
        locations: points of a step, shared by its images: half of them centres of the teacher's
            patches, half anywhere, with targets interpolated between the centres' ones; 0 for the
            whole grid.
        save_every: steps between saved states within an epoch.
        seed: seed of every random draw.
    """

    epochs: int = 15
    batch_size: int = 8
    lr: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    locations: int = 0
    save_every: int = 1000
    seed: int = 0


def optimizer_of(network: PerceptionField, lr: float) -> torch.optim.Adam:
    """Return Adam on every parameter."""
    return torch.optim.Adam(network.parameters(), lr)


def losses(
    network: PerceptionField,
    images: Float[Tensor, "batch 3 side side"],
    locations: Locations,
    features: Float[Tensor, "batch locations dim"],
    colours: Float[Tensor, "batch locations 3"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the mean squared errors of features and of colours; the loss is their sum.

    Args:
        network: the network that learns.
        images: the network's input.
        locations: where the field is queried, the same for all images.
        features: the targets of the field there.
        colours: the targets of the colours there.
    """
    trigger = network.trigger(images)
    predicted = network.field(trigger, locations)  # (B, L, D)
    rgb = network.rgb(trigger, locations, predicted)  # (B, L, 3)
    return F.mse_loss(predicted, features), F.mse_loss(rgb, colours)


def train(
    network: PerceptionField,
    shards: Shards,
    training: list[int],
    held_out: list[int],
    run: TrainingRun[Recipe],
) -> None:
    """Train, saving after every epoch and every `save_every` steps, and write the best model.

    The draws of a step follow from the seed and its number, so a training that was stopped ends as
    an undisturbed one does. The best model has the smallest validation error of the features.

    Args:
        network: the network that learns.
        shards: the photographs with their teacher's features.
        training: indices of the photographs that the network learns from.
        held_out: indices of the photographs that validation errors are measured on.
        run: the recipe, the folder, and where to compute.

    Raises:
        UserError: the loss is not finite, or the folder's state is damaged.
    """
    recipe, device = run.schedule, run.device
    validation = Validation(shards, training, held_out, network.sizes, device, run.workers)
    optimizer = optimizer_of(network, recipe.lr)
    batches = len(training) // min(recipe.batch_size, len(training))
    board = _tensorboard(run.folder.path)
    for epoch in run.epochs({"network": network, "optimizer": optimizer}):
        remaining = _steps(shards, training, run, epoch)
        for step, images, patches in remaining:
            number = epoch.number * batches + step
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, (number - 1) / (recipe.epochs * batches))
            with _mixed_precision(device):
                feature, rgb = losses(
                    network, images, *_targets(network, recipe, number, images, patches)
                )
            optimizer.zero_grad()
            (feature + rgb).backward()
            optimizer.step()
            epoch.add({"feature": feature.detach(), "rgb": rgb.detach()})
            if step % recipe.save_every == 0 and step < batches:
                means = epoch.means()
                run.report(
                    f"step {step}/{batches}  feature {means['feature']:.4f}  rgb {means['rgb']:.5f}"
                )
                epoch.save()
        line = epoch.line({**epoch.means(), **validation(network)})
        if line["val_feature"] < min((before["val_feature"] for before in epoch.log), default=inf):
            about = {**run.folder.options, **line}
            save_field(run.folder.model, network, about, validation.mean_field)
        epoch.finish(
            line,
            f"feature {line['feature']:.4f}  rgb {line['rgb']:.5f}  "
            f"held out: feature {line['val_feature']:.4f} (the mean field's "
            f"{line['mean_field']:.4f}, {line['gain']:.2f} times as much)  "
            f"rgb {line['val_rgb']:.5f}",
        )
        for name, value in line.items() if board else ():
            board.add_scalar(name, value, epoch.number + 1)


def split(images: int, held_out: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the photographs to train on and those held out, a random fifth at most.

    Args:
        images: the number of photographs.
        held_out: the number to hold out.
        seed: seed of the draw.

    Raises:
        UserError: there are fewer than two photographs.
    """
    if images < 2:
        raise UserError("a training needs two photographs, one of them held out; add to --images")
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed)).tolist()
    count = max(1, min(held_out, images // 5))
    return sorted(order[count:]), sorted(order[:count])


def rate(recipe: Recipe, progress: float) -> float:
    """Return the learning rate after a share of the whole training."""
    if recipe.schedule == "constant":
        return recipe.lr
    return recipe.lr * 0.5 * (1 + cos(pi * progress))


def _steps(
    shards: Shards, training: list[int], run: TrainingRun[Recipe], epoch: Epoch
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the steps left of an epoch: their number from 1, images in [0, 1], patch features."""
    recipe, done = run.schedule, epoch.steps
    draws = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch.number)
    order = torch.tensor(training)[torch.randperm(len(training), generator=draws)]
    size = min(recipe.batch_size, len(training))
    batches = [part.tolist() for part in order.split(size) if len(part) == size]
    loader = DataLoader(shards, batch_sampler=batches[done:], num_workers=run.workers)
    for step, (images, patches) in enumerate(loader, done + 1):
        yield step, to_unit_range(images.to(run.device)), patches.to(run.device).float()


def _targets(
    network: PerceptionField, recipe: Recipe, number: int, images: Tensor, patches: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the locations of a step, and the features and colours to predict there."""
    sizes = network.sizes
    if recipe.locations:
        draws = torch.Generator().manual_seed(recipe.seed * 1_000_003 + number)
        drawn = random_locations(sizes.grid, patches.shape[1], recipe.locations, draws)
        locations = drawn.to(images.device)
        colours = colours_at(images, sizes.patch, locations)
    else:
        locations = lattice(sizes.grid, sizes.grid, images.device)
        colours = average_colours(images, sizes.patch)
    return locations, features_at(patches, sizes.grid, locations), colours


def _mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def _tensorboard(folder: Path) -> Any:
    """Return a writer of TensorBoard's files where TensorBoard is installed, else None."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
