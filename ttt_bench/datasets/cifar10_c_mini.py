"""`cifar10-c-mini`: corrupted photographs that come with every installation."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typing_extensions import override

from ttt_bench.api.dataset import Dataset, Entry
from ttt_bench.datasets.facts import cifar as facts

DATA = Path(__file__).with_name("cifar10_c_mini.npz")
TRAINING = Path(__file__).with_name("cifar10_few_shot.npz")


class Cifar10CMini(Dataset):
    """120 class-balanced CIFAR-10 test images, clean and under 15 corruptions at severity 5.

    32 training images per class are beside them, for methods that learn from a few labels. Built by
    tools/build_cifar10_c_mini.py.
    """

    classes = facts.CIFAR10_CLASSES

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = facts.CIFAR10_C_MINI.name
        with np.load(DATA) as file:
            self._images = file["images"]
            groups, labels, numbers = file["groups"], file["labels"], file["test_indices"]
        self._per_group = len(labels)
        self.entries = [
            Entry(f"{group}/{number:04d}", str(group), int(label))
            for group in groups
            for number, label in zip(numbers, labels, strict=True)
        ]
        with np.load(TRAINING) as file:
            self._training_images = file["images"]
            self.training = [
                Entry(f"train/{number:05d}", None, int(label))
                for number, label in zip(file["train_indices"], file["labels"], strict=True)
            ]

    @override
    def open(self, index: int) -> Image.Image:
        group, row = divmod(index, self._per_group)
        return Image.fromarray(self._images[group, row])

    @override
    def open_training(self, index: int) -> Image.Image:
        return Image.fromarray(self._training_images[index])

    @override
    def card(self) -> dict[str, Any]:
        return {
            "revision": hashlib.sha256(DATA.read_bytes()).hexdigest(),
            "corruption_source": "generated: imagecorruptions-imaug 1.1.5, severity 5",
        }
