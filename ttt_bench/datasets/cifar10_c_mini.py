"""`cifar10-c-mini`: the corrupted photographs that every installation carries."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typing_extensions import override

from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import Dataset, Entry

DATA = Path(__file__).with_name("cifar10_c_mini.npz")
TRAINING = Path(__file__).with_name("cifar10_few_shot.npz")


class Cifar10CMini(Dataset):
    """120 class-balanced CIFAR-10 test images, clean and under 15 corruptions at severity 5.

    With them come 32 training images per class, for methods that learn from a few labels.

    Built by tools/build_cifar10_c_mini.py. Class names and templates are those that CLIP's authors
    published for CIFAR-10 (Radford et al. 2021).
    """

    classes = ClassSet(
        names=(
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        templates=tuple(
            f"{start} {{}}."
            for article in ("a", "the")
            for start in (
                f"a photo of {article}",
                f"a blurry photo of {article}",
                f"a black and white photo of {article}",
                f"a low contrast photo of {article}",
                f"a high contrast photo of {article}",
                f"a bad photo of {article}",
                f"a good photo of {article}",
                f"a photo of {article} small",
                f"a photo of {article} big",
            )
        ),
    )

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = "cifar10-c-mini"
        with np.load(DATA) as file:
            self._images = file["images"]
            groups, labels, places = file["groups"], file["labels"], file["test_indices"]
        self._per_group = len(labels)
        self.entries = [
            Entry(f"{group}/{place:04d}", str(group), int(label))
            for group in groups
            for place, label in zip(places, labels, strict=True)
        ]

        with np.load(TRAINING) as file:
            self._training_images = file["images"]
            self.training = [
                Entry(f"train/{place:05d}", None, int(label))
                for place, label in zip(file["train_indices"], file["labels"], strict=True)
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
