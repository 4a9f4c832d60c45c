"""Try TTT-MAE with `tiny-mae` at several learning rates, on held-out training images.

    python tools/try_ttt_mae_rates.py

The images are CIFAR-10 training images that fitted nothing, under CIFAR-10-C's 15 corruptions at
severity 5. No test image is read.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from cifar10 import read_train
from cifar_c import CORRUPTIONS, corrupt_all
from PIL import Image
from train_tiny_mae import FILES
from ttt_bench_ttt_mae.checkpoints import autoencoder, head, read
from ttt_bench_ttt_mae.files import EMBEDDED
from ttt_bench_ttt_mae.methods.ttt_mae import (
    TTTMAEConfig,
    make_optimizer,
    put_back,
    tune,
    working_copy,
)
from ttt_bench_ttt_mae.transform import to_pixels

# Those of the embedded preset.
COPIES, STEPS = 16, 10
RATES = (6.25e-4, 5e-3, 2e-2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--images", type=int, default=25, help="images of each corruption")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    _, held_out = read_train(args.data)
    chosen = np.random.default_rng(0).permutation(len(held_out.labels))[: args.images]
    model = autoencoder(read(EMBEDDED / FILES["pretrain"]))
    classifier = head(read(EMBEDDED / FILES["vit-probe"]), model)
    working = working_copy(model)
    corrupted = [corrupt_all(held_out.images[chosen], name, chosen) for name in CORRUPTIONS]
    images = [to_pixels()(Image.fromarray(image))[None] for part in corrupted for image in part]
    labels = np.tile(held_out.labels[chosen], len(corrupted))
    for lr in RATES:
        config = TTTMAEConfig(copies=COPIES, steps=STEPS, lr=lr)
        predicted, losses = [], []
        for number, image in enumerate(images):
            draws = torch.Generator().manual_seed(number)
            noises = (torch.rand(COPIES, 64, generator=draws) for _ in range(STEPS))
            with put_back(working, model):
                loss, logits = tune(working, classifier, image, noises, make_optimizer(config))
            predicted.append(logits.argmax(1).numpy())
            losses.append(loss.numpy())
        right = 100 * (np.array(predicted) == labels[:, None]).mean(0)
        loss = np.mean(losses, axis=0)
        print(
            f"lr {lr:g}: before {right[0]:.1f} %, after {right[-1]:.1f} %; "
            f"loss {loss[0]:.3f} to {loss[-1]:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
