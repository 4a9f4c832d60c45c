"""Try TTT-MAE with `tiny-mae` from two trainings and in many forms, on held-out training images.

    python tools/train_tiny_mae.py joint-train
    python tools/try_ttt_mae.py

The images are CIFAR-10 training images that fitted nothing, under CIFAR-10-C's 15 corruptions at
severity 5. No test image is read. The head was trained on the frozen encoder (Gandelsman et al.
2022), or encoder, decoder and head were trained together (Sun et al. 2020, Test-Time Training with
Self-Supervision for Generalization under Distribution Shifts). The form that gains most is tried
again on as many other images, since the best of many forms seems better than it is.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from cifar10 import Split, read_train
from cifar_c import CORRUPTIONS, corrupt_all
from PIL import Image
from torch import Tensor, nn
from train_tiny_mae import FILES
from ttt_bench_ttt_mae.checkpoints import autoencoder, head, read
from ttt_bench_ttt_mae.files import EMBEDDED
from ttt_bench_ttt_mae.methods.ttt_mae import put_back, tune, working_copy
from ttt_bench_ttt_mae.model import Head, MAENetwork
from ttt_bench_ttt_mae.transform import to_pixels

# Copies and steps of the embedded preset, and the released learning rate of SGD with momentum 0.9.
COPIES, STEPS, LR = 16, 10, 5e-3
RATIOS = (0.75, 0.5)
FIRST_HALF = ("patch_embed.", "blocks.0.", "blocks.1.")
# Which of the encoder's weights learn.
LEARN: dict[str, Callable[[str], bool]] = {
    "encoder": lambda name: True,
    "first half": lambda name: name.startswith(FIRST_HALF),
    "norms": lambda name: "norm" in name,
}


@dataclass(frozen=True)
class Images:
    """Pixels of corrupted images, and their labels."""

    pixels: Sequence[Tensor]
    labels: np.ndarray


@dataclass(frozen=True)
class Form:
    """One form of TTT-MAE.

    Attributes:
        start: the training that it starts from.
        learn: a name of `LEARN`.
        ratio: share of the patches to hide.
    """

    start: str
    learn: str
    ratio: float


def corrupted(held_out: Split, chosen: np.ndarray) -> Images:
    """Return some held-out images under every corruption at severity 5."""
    parts = [corrupt_all(held_out.images[chosen], name, chosen) for name in CORRUPTIONS]
    pixels = [to_pixels()(Image.fromarray(image))[None] for part in parts for image in part]
    return Images(pixels, np.tile(held_out.labels[chosen], len(parts)))


def sgd(working: MAENetwork, form: Form, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    """Return an optimizer of those weights among `parameters` that learn."""
    learn = {id(p) for name, p in working.named_parameters() if LEARN[form.learn](name)}
    chosen = [p for p in parameters if id(p) in learn]
    return torch.optim.SGD(chosen, lr=LR, momentum=0.9)


def gain(form: Form, model: MAENetwork, classifier: nn.Module, images: Images) -> float:
    """Print what a form does to the accuracy, and return its gain in percentage points."""
    working = working_copy(model)
    predicted: list[np.ndarray] = []
    losses: list[np.ndarray] = []
    for number, image in enumerate(images.pixels):
        draws = torch.Generator().manual_seed(number)
        noises = (torch.rand(COPIES, 64, generator=draws) for _ in range(STEPS))
        with put_back(working, model):
            make = partial(sgd, working, form)
            loss, logits = tune(working, classifier, image, noises, make, form.ratio)
        predicted.append(logits.argmax(1).numpy())
        losses.append(loss.numpy())
    right = 100 * (np.array(predicted) == images.labels[:, None]).mean(0)
    loss = np.mean(losses, axis=0)
    print(
        f"{form.start}, {form.learn} learns, {form.ratio:.0%} hidden: "
        f"before {right[0]:.1f} %, after {right[-1]:.1f} %; loss {loss[0]:.3f} to {loss[-1]:.3f}",
        flush=True,
    )
    return float(right[-1] - right[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--build", type=Path, default=Path("build/tiny-mae"))
    parser.add_argument("--images", type=int, default=20, help="images of each corruption")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    _, held_out = read_train(args.data)
    order = np.random.default_rng(0).permutation(len(held_out.labels))
    images, others = (
        corrupted(held_out, order[first : first + args.images]) for first in (0, args.images)
    )
    probed = autoencoder(read(EMBEDDED / FILES["pretrain"]))
    # Only the file in the build folder has the decoder.
    together = read(args.build / "joint-train" / "model.pth")
    joint = autoencoder(together)
    starts: dict[str, tuple[MAENetwork, Head]] = {
        "vit-probe": (probed, head(read(EMBEDDED / FILES["vit-probe"]), probed)),
        "joint-train": (joint, head(together, joint)),
    }
    forms = [Form(*values) for values in product(starts, LEARN, RATIOS)]
    gains = [gain(form, *starts[form.start], images) for form in forms]
    best = forms[int(np.argmax(gains))]
    print("the best form again, on other images")
    gain(best, *starts[best.start], others)


if __name__ == "__main__":
    main()
