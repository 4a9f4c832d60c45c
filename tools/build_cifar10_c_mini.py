"""Build the embedded dataset `cifar10-c-mini` from CIFAR-10.

    apt-get install libmagickwand-6.q16-6
    pip install -c constraints.txt -e '.[build]'
    python tools/build_cifar10_c_mini.py

The corruptions have CIFAR-10-C's own strengths (tools/cifar_c.py). Three files come of it:

- 200 test images, 20 of each class: clean and under the 15 corruptions at severities 3 and 5;
- 80 training images, 8 of each class, clean and under the 15 at severity 5, to choose
  hyper-parameters on;
- 320 other training images, 32 of each class, clean, for few-shot methods.

All are drawn once with a fixed seed. The training images are from the 5,000 that no embedded model
was fitted on: its own training images would leave a prompt nothing to learn.
"""

import argparse
from io import BytesIO
from pathlib import Path

import numpy as np
from cifar10 import Split, read_test, read_train
from cifar_c import CORRUPTIONS, corrupt_all
from PIL import Image

from ttt_bench.datasets.cifar10_c_mini import (
    CLEAN,
    FEW_SHOT_FILE,
    SEVERITIES,
    TEST_FILE,
    VALIDATION_FILE,
    VALIDATION_SEVERITIES,
)
from ttt_bench.datasets.image_sheets import ImageSheets, predicted

TEST_PER_CLASS = 20
# Drawn first: figures in docs/ show some of these, by their position in the file.
SHOWN_PER_CLASS = 12
VALIDATION_PER_CLASS = 8
SHOTS = 32
SEED = 0
# CIFAR-10 has 10,000 test images: with this the seeds of training images are others than theirs.
AFTER_TEST_IMAGES = 10_000
# In 1/256: the weight of the clean image under contrast, fog, frost, and whole.
SCALES = (0, 38, 102, 146, 192, 230, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--output", type=Path, default=TEST_FILE.parent)
    args = parser.parse_args()
    _, held_out = read_train(args.data)
    few_shot = draw(held_out, SHOTS, np.arange(len(held_out.labels)))
    write(args.output / FEW_SHOT_FILE.name, held_out, np.sort(few_shot), (), 0)
    rest = np.setdiff1d(np.arange(len(held_out.labels)), few_shot)
    validation = draw(held_out, VALIDATION_PER_CLASS, rest)
    output = args.output / VALIDATION_FILE.name
    write(output, held_out, validation, VALIDATION_SEVERITIES, AFTER_TEST_IMAGES)
    test = read_test(args.data)
    everything = np.arange(len(test.labels))
    shown = draw(test, SHOWN_PER_CLASS, everything)
    others = draw(test, TEST_PER_CLASS - SHOWN_PER_CLASS, np.setdiff1d(everything, shown))
    write(args.output / TEST_FILE.name, test, np.concatenate([shown, others]), SEVERITIES, 0)


def draw(split: Split, per_class: int, candidates: np.ndarray) -> np.ndarray:
    """Return as many of the candidate indices of each class, in an order without classes."""
    rng = np.random.default_rng(SEED)
    rows = [
        rng.choice(candidates[split.labels[candidates] == label], per_class, replace=False)
        for label in range(10)
    ]
    return rng.permutation(np.concatenate(rows))


def write(
    output: Path,
    split: Split,
    indices: np.ndarray,
    severities: tuple[int, ...],
    first_seed: int,
) -> None:
    """Write one file of images and read it back.

    Args:
        output: the file.
        split: the split to take images from.
        indices: the images' indices in it.
        severities: the severities of the corrupted groups; none for clean images only.
        first_seed: what is added to an index to give the seed of its corruptions.
    """
    chosen = split.take(indices)
    groups = {CLEAN: chosen.images}
    for severity in severities:
        for name in CORRUPTIONS:
            images = corrupt_all(chosen.images, name, first_seed + indices, severity)
            groups[f"{name}@{severity}"] = images
    scales, sheets = {}, {}
    for group, images in groups.items():
        scales[group], sheets[group] = pack(images, chosen.images, group)
        print(f"{group}: {len(sheets[group])} bytes, scale {scales[group]}", flush=True)
    np.savez(
        output,
        groups=np.array(list(groups)),
        scales=np.array(list(scales.values()), np.int64),
        labels=chosen.labels,
        indices=indices,
        **{group: np.frombuffer(sheet, np.uint8) for group, sheet in sheets.items()},
    )
    written = ImageSheets(output)
    for group, images in groups.items():
        if not np.array_equal(written.images(group), images):
            raise SystemExit(f"{output}: {group} is read back otherwise than it was written")
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB", flush=True)


def pack(images: np.ndarray, clean: np.ndarray, group: str) -> tuple[int, bytes]:
    """Return the scale that makes a group's picture smallest, and the picture."""
    scales = (0,) if group == CLEAN else SCALES
    quick = {"method": 2, "quality": 50}
    sizes = {scale: len(webp(difference(images, clean, scale), **quick)) for scale in scales}
    best = min(sizes, key=sizes.__getitem__)
    return best, webp(difference(images, clean, best), method=6, quality=100)


def difference(images: np.ndarray, clean: np.ndarray, scale: int) -> np.ndarray:
    """Return the bytes that a group is stored as."""
    return images - predicted(clean, scale) if scale else images


def webp(images: np.ndarray, method: int, quality: int) -> bytes:
    """Return images as one lossless WebP picture, one below another.

    Args:
        images: uint8 `[N, 32, 32, 3]`.
        method: the encoder's choice of means, 0 (quick) to 6 (small).
        quality: its effort, 0 to 100; the picture is lossless whatever it is.
    """
    encoded = BytesIO()
    sheet = Image.fromarray(images.reshape(-1, images.shape[2], 3))  # (N*32, 32, 3)
    sheet.save(encoded, "WEBP", lossless=True, exact=True, method=method, quality=quality)
    return encoded.getvalue()


if __name__ == "__main__":
    main()
