"""Training the self-supervised APM on a teacher's patch features."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import cos, inf, pi
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ttt_bench import TrainingFolder, UserError
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

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a training goes; the defaults are the release's, but for the number of epochs.

    Attributes:
        locations: points asked in each step, shared by its images: half of them centres of the
            teacher's patches, half anywhere, with targets between the centres' ones. 0 asks the
            whole grid.
        schedule: of the learning rate: constant, or falling to zero by a cosine.
        save_every: steps between saved states within an epoch.
    """

    epochs: int = 15
    batch_size: int = 8
    lr: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    locations: int = 0
    save_every: int = 1000
    seed: int = 0


def optimizer_of(network: PerceptionField, lr: float) -> torch.optim.Adam:
    """Adam on every parameter."""
    return torch.optim.Adam(network.parameters(), lr)


def losses(
    network: PerceptionField,
    images: Float[Tensor, "batch 3 side side"],
    locations: Locations,
    features: Float[Tensor, "batch locations dim"],
    colours: Float[Tensor, "batch locations 3"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean squared errors of features and of colours; the loss is their sum."""
    trigger = network.trigger(images)
    answered = network.field(trigger, locations)
    rgb = network.rgb(trigger, locations, answered)
    return F.mse_loss(answered, features), F.mse_loss(rgb, colours)


def train(
    network: PerceptionField,
    shards: Shards,
    fitting: list[int],
    held_out: list[int],
    recipe: Recipe,
    folder: TrainingFolder,
    device: torch.device,
    workers: int,
    report: Report,
) -> None:
    """Train, saving after every epoch and every `save_every` steps, and write the best model.

    The draws of a step come from the seed and its number, so a training that was stopped gives what
    an undisturbed one gives. Best is the smallest validation error of the features.

    Args:
        fitting: which of the shards' photographs the network learns from.
        held_out: which of them only the validation error sees.

    Raises:
        UserError: the loss is not finite, or the folder's state is damaged.
    """
    validation = Validation(shards, fitting, held_out, network.sizes, device, workers)
    optimizer = optimizer_of(network, recipe.lr)
    batches = len(fitting) // min(recipe.batch_size, len(fitting))
    state: dict[str, Any] = {"epoch": 0, "step": 0, "sums": [0.0, 0.0], "best": inf, "log": []}
    if (saved := folder.load()) is not None:
        network.load_state_dict(saved.pop("network"))
        optimizer.load_state_dict(saved.pop("optimizer"))
        state = saved
        report(f"going on after {state['epoch']} epochs and {state['step']} steps")

    def save(**changes: Any) -> None:
        state.update(changes)
        weights = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        folder.save({**state, **weights})

    board = _tensorboard(folder.path)
    for epoch in range(state["epoch"], recipe.epochs):
        started, sums = time.monotonic(), torch.tensor(state["sums"], device=device)
        left = _steps(shards, fitting, recipe, epoch, state["step"], workers, device)
        for step, images, patches in left:
            number = epoch * batches + step
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, (number - 1) / (recipe.epochs * batches))
            with _mixed_precision(device):
                feature, rgb = losses(network, *_task(network, recipe, number, images, patches))
            optimizer.zero_grad()
            (feature + rgb).backward()
            optimizer.step()
            sums += torch.stack([feature, rgb]).detach()
            if step % recipe.save_every == 0 and step < batches:
                feature, rgb = _means(sums, step, epoch)
                report(f"step {step}/{batches}  feature {feature:.4f}  rgb {rgb:.5f}")
                save(epoch=epoch, step=step, sums=sums.tolist())
        feature, rgb = _means(sums, batches, epoch)
        errors = validation(network)
        seconds = round(time.monotonic() - started, 1)
        line = {"epoch": epoch + 1, "feature": feature, "rgb": rgb, **errors, "seconds": seconds}
        if errors["val_feature"] < state["best"]:
            state["best"] = errors["val_feature"]
            about = {**folder.options, **line}
            save_field(folder.model, network, about, validation.mean_field)
        save(epoch=epoch + 1, step=0, sums=[0.0, 0.0], log=[*state["log"], line])
        for name, value in line.items() if board else ():
            board.add_scalar(name, value, epoch + 1)
        report(
            f"epoch {epoch + 1}/{recipe.epochs}  feature {feature:.4f}  rgb {rgb:.5f}  "
            f"held out: feature {errors['val_feature']:.4f} (the mean field's "
            f"{errors['mean_field']:.4f}, {errors['gain']:.2f} times as much)  "
            f"rgb {errors['val_rgb']:.5f}  {seconds:.0f} s"
        )


def split(images: int, held_out: int, seed: int) -> tuple[list[int], list[int]]:
    """Which photographs fit the network and which are held out: a random part, a fifth at most.

    Raises:
        UserError: there are not two.
    """
    if images < 2:
        raise UserError("a training wants two photographs at least: one is held out")
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed)).tolist()
    count = max(1, min(held_out, images // 5))
    return sorted(order[count:]), sorted(order[:count])


def rate(recipe: Recipe, progress: float) -> float:
    """The learning rate after a share of the whole training."""
    if recipe.schedule == "constant":
        return recipe.lr
    return recipe.lr * 0.5 * (1 + cos(pi * progress))


def _steps(
    shards: Shards,
    fitting: list[int],
    recipe: Recipe,
    epoch: int,
    done: int,
    workers: int,
    device: torch.device,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """What is left of an epoch: number of the step from 1, images in [0, 1], patch features."""
    draws = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    order = torch.tensor(fitting)[torch.randperm(len(fitting), generator=draws)]
    size = min(recipe.batch_size, len(fitting))
    batches = [part.tolist() for part in order.split(size) if len(part) == size]
    loader = DataLoader(
        Subset(shards, range(len(shards))), batch_sampler=batches[done:], num_workers=workers
    )
    for step, (images, patches) in enumerate(loader, done + 1):
        yield step, to_unit_range(images.to(device)), patches.to(device).float()


def _task(
    network: PerceptionField, recipe: Recipe, number: int, images: Tensor, patches: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, locations, and the targets there."""
    sizes = network.sizes
    if recipe.locations:
        draws = torch.Generator().manual_seed(recipe.seed * 1_000_003 + number)
        at = random_locations(sizes.grid, patches.shape[1], recipe.locations, draws)
        at = at.to(images.device)
        return images, at, features_at(patches, sizes.grid, at), colours_at(images, sizes.patch, at)
    at = lattice(sizes.grid, sizes.grid, images.device)
    return images, at, features_at(patches, sizes.grid, at), average_colours(images, sizes.patch)


def _mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def _means(sums: Tensor, steps: int, epoch: int) -> list[float]:
    if not sums.isfinite().all():
        raise UserError(f"the loss is not finite in epoch {epoch + 1}; take a smaller --lr")
    return (sums / steps).tolist()


def _tensorboard(folder: Path) -> Any:
    """A writer of TensorBoard's files where TensorBoard is installed, else None."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
