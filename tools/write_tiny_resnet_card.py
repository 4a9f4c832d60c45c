"""Measure the shipped `tiny-resnet` and write its model card.

    python tools/write_tiny_resnet_card.py

Clean and under CIFAR-10-C's 15 corruptions at severity 5: 10,000 test images, and 5,000 held-out
training images as they are and with the statistics of their batches. Nothing is chosen by what
this prints about test images.
"""

import argparse
import hashlib
import json
from pathlib import Path
from statistics import fmean

import torch
from corrupted import CONDITIONS, corrupted, read_split
from torch import nn
from train_tiny_resnet import to_tensor

from ttt_bench import load_backbone
from ttt_bench.backbones.tiny_resnet import WEIGHTS
from ttt_bench.backbones.tiny_resnet.network import STAGES

TEMPLATE = Path(__file__).with_name("tiny_resnet_card.md")
BATCH = 200


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, adapt: bool) -> float:
    """Return the percentage right, with the statistics of each batch if `adapt`."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Without saved statistics the layer takes its batch's.
            module.train(adapt)
            module.momentum = 0.0
    predicted = torch.cat([model(part).argmax(1) for part in images.split(BATCH)])
    return 100 * (predicted == labels).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--build", type=Path, default=Path("build/tiny-resnet"))
    parser.add_argument("--images", type=int, default=10_000, help="at most so many of a split")
    args = parser.parse_args()
    model = load_backbone("tiny-resnet", "cpu").model
    scores: dict[str, tuple[float, float, float]] = {}
    splits = {name: read_split(name, args.data) for name in ("test", "held-out")}
    # A batch that is sorted by class has the statistics of its class.
    orders = {
        name: torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(0))[
            : args.images
        ]
        for name, split in splits.items()
    }
    for condition in CONDITIONS:
        columns: list[float] = []
        for name, adapt in (("test", False), ("held-out", False), ("held-out", True)):
            pixels = to_tensor(corrupted(name, condition, args.data)[orders[name]])
            labels = torch.from_numpy(splits[name].labels)[orders[name]]
            columns.append(accuracy(model, pixels, labels, adapt))
        scores[condition] = (columns[0], columns[1], columns[2])
        print(condition, *(f"{value:.2f}" for value in columns), flush=True)
    log = (args.build / "log.jsonl").read_text().splitlines()
    test, held_out, adapted = (
        fmean(row[column] for name, row in scores.items() if name != "clean") for column in range(3)
    )
    card = TEMPLATE.read_text().format(
        **json.loads((args.build / "options.json").read_text()),
        test_images=len(orders["test"]),
        held_out_images=len(orders["held-out"]),
        blocks=", ".join(str(depth) for _, depth in STAGES),
        channels=", ".join(str(channels) for channels, _ in STAGES),
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        size=WEIGHTS.stat().st_size / 1e6,
        sha=hashlib.sha256(WEIGHTS.read_bytes()).hexdigest(),
        minutes=sum(json.loads(line)["seconds"] for line in log) / 60,
        rows="\n".join(
            f"| {name} | " + " | ".join(f"{value:.2f}" for value in row) + " |"
            for name, row in scores.items()
        ),
        test=test,
        held_out=held_out,
        adapted=adapted,
    )
    WEIGHTS.with_name("MODEL_CARD.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
