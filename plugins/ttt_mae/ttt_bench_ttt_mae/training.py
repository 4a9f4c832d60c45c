"""Training that can be stopped at any moment and goes on with the same command."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from timm.optim._param_groups import param_groups_weight_decay
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop
from torchvision.transforms.functional import InterpolationMode

from ttt_bench import Dataset, TrainingFolder, UserError

Loss = Callable[
    [Float[Tensor, "batch 3 side side"], Int[Tensor, " batch"], torch.Generator],
    tuple[Float[Tensor, ""], dict[str, float]],
]
Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a training goes: AdamW, the rate rising over the warm-up, then falling by a cosine.

    Attributes:
        epochs: passes over the training images, warm-up included.
        batch_size: images in a step.
        lr: the highest learning rate.
        min_crop: least share of an image's area that a random crop shows.
        seed: of every random draw.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    betas: tuple[float, float]
    warm_up: int
    min_crop: float
    seed: int

    def rate(self, progress: float) -> float:
        """The learning rate after so many epochs (a fraction of one too)."""
        warm_up = min(self.warm_up, self.epochs - 1)
        if progress < warm_up:
            return self.lr * progress / warm_up
        done = (progress - warm_up) / (self.epochs - warm_up)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))


class TrainingImages(TorchDataset[tuple[Tensor, int]]):
    """A dataset's labelled training images, each a random crop, flipped half of the time."""

    def __init__(
        self, dataset: Dataset, side: int, min_crop: float, preprocess: Callable[..., Tensor]
    ) -> None:
        self.dataset = dataset
        crop: Callable[..., Any] = RandomResizedCrop(
            side, (min_crop, 1.0), interpolation=InterpolationMode.BICUBIC
        )
        self.transform: Callable[[Any], Tensor] = Compose(
            [crop, RandomHorizontalFlip(), preprocess]
        )

    def __len__(self) -> int:
        return len(self.dataset.training)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.transform(self.dataset.open_training(index))
        return pixels, self.dataset.training[index].label


def fit(
    modules: nn.Module,
    loss: Loss,
    images: TrainingImages,
    schedule: Schedule,
    folder: TrainingFolder,
    device: torch.device,
    workers: int,
    report: Report,
) -> None:
    """Train the parameters that ask for gradients, saving after every epoch.

    Every draw of an epoch comes from the seed and its number, so a training that was stopped gives
    what an undisturbed one gives.

    Args:
        modules: what is trained and saved.
        loss: of one batch, and figures of it to log (means over an epoch).
        report: told a line after every epoch.

    Raises:
        UserError: the loss is not finite, or the folder's state is damaged.
    """
    groups = param_groups_weight_decay(modules, schedule.weight_decay)
    optimizer = torch.optim.AdamW(groups, schedule.lr, betas=schedule.betas)
    log: list[dict[str, Any]] = []
    if (state := folder.load()) is not None:
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        log = state["log"]
        report(f"going on after epoch {len(log)} of {schedule.epochs}")
    for epoch in range(len(log), schedule.epochs):
        started = time.monotonic()
        sums: dict[str, float] = {}
        steps = 0
        for progress, pixels, labels, generator in batches(images, schedule, epoch, workers):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(epoch + progress)
            value, figures = loss(pixels.to(device), labels.to(device), generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            steps += 1
            for name, figure in {"loss": value.item(), **figures}.items():
                sums[name] = sums.get(name, 0.0) + figure
            if not math.isfinite(value.item()):
                raise UserError(
                    f"the loss is {value.item()} in epoch {epoch + 1}; take a smaller --base-lr"
                )
        means = {name: round(total / steps, 5) for name, total in sums.items()}
        seconds = round(time.monotonic() - started, 1)
        log.append({"epoch": epoch + 1, **means, "seconds": seconds})
        folder.save(
            {"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), "log": log}
        )
        figures_text = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
        report(f"epoch {epoch + 1}/{schedule.epochs}  {figures_text}  {seconds:.0f} s")


def batches(
    images: TrainingImages, schedule: Schedule, epoch: int, workers: int
) -> Iterator[tuple[float, Tensor, Tensor, torch.Generator]]:
    """One epoch: how much of it is done, pixels, labels, and a generator for further draws."""
    size = min(schedule.batch_size, len(images))
    order = torch.Generator().manual_seed(schedule.seed * 1_000_003 + epoch)
    loader = DataLoader(
        images, size, shuffle=True, drop_last=True, num_workers=workers, generator=order
    )
    draws = torch.Generator().manual_seed(schedule.seed * 1_000_003 + epoch + 500_000)
    # Without worker processes the crops draw from the global generator: it is lent and given back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schedule.seed * 1_000_003 + epoch)
        for number, (pixels, labels) in enumerate(loader):
            yield number / len(loader), pixels, labels, draws
