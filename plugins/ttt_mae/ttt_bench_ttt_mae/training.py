"""The training loop of the autoencoder and of its classifiers: AdamW on random crops."""

import math
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

from ttt_bench import Dataset, TrainingRun, seeded

Loss = Callable[
    [Float[Tensor, "batch 3 side side"], Int[Tensor, " batch"], torch.Generator],
    tuple[Float[Tensor, ""], dict[str, float]],
]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """AdamW's values, and a learning rate that rises over the warm-up and falls by a cosine.

    Attributes:
        epochs: passes over the training images, warm-up included.
        batch_size: images in a step.
        lr: the highest learning rate.
        weight_decay: weight decay of AdamW, for matrices alone.
        betas: AdamW's decay rates of the gradient's two moments.
        warm_up: epochs over which the learning rate rises.
        min_crop: smallest share of an image's area that a random crop shows.
        seed: seed of every random draw.
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
        """Return the learning rate after a number of epochs, whole or not."""
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


def fit(modules: nn.Module, loss: Loss, images: TrainingImages, run: TrainingRun[Schedule]) -> None:
    """Train the parameters that ask for gradients, saving after every epoch.

    Every draw of an epoch follows from the seed and its number, so a training that was stopped ends
    as an undisturbed one does.

    Args:
        modules: the modules that are trained and saved.
        loss: returns the loss of a batch, and figures of it to log.
        images: the training images.
        run: the schedule, the folder, and where to compute.

    Raises:
        UserError: the loss is not finite, or the folder's state is damaged.
    """
    schedule, device = run.schedule, run.device
    groups = param_groups_weight_decay(modules, schedule.weight_decay)
    optimizer = torch.optim.AdamW(groups, schedule.lr, betas=schedule.betas)
    for epoch in run.epochs({"modules": modules, "optimizer": optimizer}):
        for share, pixels, labels, generator in batches(images, run, epoch.number):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(epoch.number + share)
            value, figures = loss(pixels.to(device), labels.to(device), generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            epoch.add({"loss": value.item(), **figures})
        means = {name: round(mean, 5) for name, mean in epoch.means().items()}
        epoch.finish(epoch.line(means))


def batches(
    images: TrainingImages, run: TrainingRun[Schedule], epoch: int
) -> Iterator[tuple[float, Tensor, Tensor, torch.Generator]]:
    """Yield an epoch's batches: the share of it done before, pixels, labels, and a generator."""
    schedule = run.schedule
    size = min(schedule.batch_size, len(images))
    order = torch.Generator().manual_seed(schedule.seed * 1_000_003 + epoch)
    loader = DataLoader(
        images, size, shuffle=True, drop_last=True, num_workers=run.workers, generator=order
    )
    draws = torch.Generator().manual_seed(schedule.seed * 1_000_003 + epoch + 500_000)
    # Without worker processes the crops draw from the global generator.
    with seeded(schedule.seed * 1_000_003 + epoch):
        for number, (pixels, labels) in enumerate(loader):
            yield number / len(loader), pixels, labels, draws
