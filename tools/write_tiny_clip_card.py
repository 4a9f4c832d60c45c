"""Measure the shipped `tiny-clip` on CIFAR-10's whole test set and write its model card.

    python tools/write_tiny_clip_card.py

Clean and under each of CIFAR-10-C's 15 corruptions at severity 5, 10,000 images each. This is the
only script that scores test images; nothing is chosen by what it prints.
"""

import argparse
import hashlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from cifar10 import Split, read_test
from cifar_c import CORRUPTIONS, corrupt_all
from PIL import Image

from ttt_bench.backbones import tiny_clip
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.engine.loading import load_backbone

FOLDER = Path(tiny_clip.__file__).parent
TEMPLATE = Path(__file__).with_name("tiny_clip_card.md")


def accuracy(split: Split, images: np.ndarray) -> float:
    """Percent right, in batches: rounding against the harness's single images is below 1e-6."""
    backbone = load_backbone("tiny-clip", "cpu")
    rule = backbone.build_classifier(Cifar10CMini.classes, [Cifar10CMini.classes.prompt])
    right = 0
    with torch.no_grad():
        for at in range(0, len(images), 500):
            part = images[at : at + 500]
            pixels = torch.stack([backbone.preprocess(Image.fromarray(image)) for image in part])
            predicted = rule(backbone.encode_image(pixels)).argmax(1)
            right += int((predicted == torch.from_numpy(split.labels[at : at + 500])).sum())
    return 100 * right / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--held-out", type=float, required=True, help="from the training's log")
    args = parser.parse_args()
    test = read_test(args.data)
    indices = np.arange(len(test.labels))
    scores = {"clean": accuracy(test, test.images)}
    names = list(CORRUPTIONS)
    with ProcessPoolExecutor(2) as pool:
        for name, images in zip(
            names,
            pool.map(corrupt_all, [test.images] * 15, names, [indices] * 15),
            strict=True,
        ):
            scores[name] = accuracy(test, images)
            print(f"{name}: {scores[name]:.2f}", flush=True)
    model = load_backbone("tiny-clip", "cpu").model
    image = sum(p.numel() for p in model.visual.parameters())
    weights = (FOLDER / "open_clip_model.safetensors").read_bytes()
    card = TEMPLATE.read_text().format(
        image=image / 1e6,
        text=(sum(p.numel() for p in model.parameters()) - image) / 1e6,
        size=len(weights) / 1e6,
        sha=hashlib.sha256(weights).hexdigest(),
        held_out=args.held_out,
        rows="\n".join(f"| {name} | {score:.2f} |" for name, score in scores.items()),
        mean=sum(scores[name] for name in names) / len(names),
    )
    (FOLDER / "MODEL_CARD.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
