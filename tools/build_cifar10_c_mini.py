"""Build the embedded dataset `cifar10-c-mini` from CIFAR-10's test images.

    pip install -c constraints.txt -e '.[corruptions]'
    python tools/build_cifar10_c_mini.py

The dataset has 120 test images, 12 of each class, drawn once with a fixed seed; clean and under the
15 corruptions of ImageNet-C at severity 5. The strengths are those for 224-pixel photographs: on 32
pixels they are far harsher than CIFAR-10-C's.

It also has 32 training images per class for few-shot methods, from the 5,000 that tiny-clip was not
trained on: its own training images would leave a prompt nothing to learn.
"""

import argparse
from pathlib import Path

import numpy as np
from cifar10 import read_test, read_train
from imagecorruptions import corrupt, get_corruption_names

OUTPUT = Path(__file__).parents[1] / "ttt_bench" / "datasets"
PER_CLASS = 12
SHOTS = 32
SEVERITY = 5
SEED = 0


def corrupt_one(image: np.ndarray, name: str, seed: int, severity: int = SEVERITY) -> np.ndarray:
    """Return one uint8 image `[32, 32, 3]` under a corruption, depending on the arguments alone."""
    np.random.seed(seed)
    # These two draw from a generator of their own.
    options = {"seed": seed} if name in ("impulse_noise", "glass_blur") else {}
    return corrupt(image, severity=severity, corruption_name=name, **options)


def corrupt_all(
    images: np.ndarray, name: str, indices: np.ndarray, severity: int = SEVERITY
) -> np.ndarray:
    """Return every image under one corruption, seeded by the image's index in the test set."""
    number = get_corruption_names("all").index(name)
    return np.stack(
        [
            corrupt_one(image, name, SEED + 100_000 * (number + 1) + int(index), severity)
            for image, index in zip(images, indices, strict=True)
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    build_test(args.data, args.output / "cifar10_c_mini.npz")
    build_few_shot(args.data, args.output / "cifar10_few_shot.npz")


def build_few_shot(data: Path, output: Path) -> None:
    _, held_out = read_train(data)
    rng = np.random.default_rng(SEED)
    rows = [rng.choice(np.flatnonzero(held_out.labels == k), SHOTS, False) for k in range(10)]
    indices = np.sort(np.concatenate(rows))
    chosen = held_out.take(indices)
    np.savez_compressed(output, images=chosen.images, labels=chosen.labels, train_indices=indices)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


def build_test(data: Path, output: Path) -> None:
    test = read_test(data)
    rng = np.random.default_rng(SEED)
    rows = [rng.choice(np.flatnonzero(test.labels == k), PER_CLASS, False) for k in range(10)]
    indices = rng.permutation(np.concatenate(rows))
    clean = test.take(indices)
    names = get_corruption_names()
    groups = [clean.images] + [corrupt_all(clean.images, name, indices) for name in names]
    np.savez_compressed(
        output,
        images=np.stack(groups),
        groups=np.array(["clean", *names]),
        labels=clean.labels,
        test_indices=indices,
    )
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
