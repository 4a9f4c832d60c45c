"""A classifier of a few thousand numbers, for tests of methods that train one."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.transforms import functional as tv

from ttt_bench import BatchNormClassifier, Classifier, WorkingCopy

SIDE = 8


def encode(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    return model.body(pixels)


def classify(model: Any, features: torch.Tensor) -> torch.Tensor:
    return model.head(features)


def network(classes: int = 10) -> nn.Module:
    """A network with BatchNorm and GroupNorm, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Module()
        model.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3),
            nn.GroupNorm(2, 6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        model.head = nn.Linear(6, classes)
        nn.init.normal_(model.head.weight)
    return model.eval().requires_grad_(False)


def working_copy(classes: int = 10) -> WorkingCopy:
    return WorkingCopy(network(classes), encode, classify)


class SmallBackbone(Classifier, BatchNormClassifier):
    """A backbone of the small network."""

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self.model, self.device = network().to(device), device
        self.feature_dim, self.image_size, self.num_classes = 6, SIDE, 10

    def make_transform(self, size: int):
        return lambda image: 4 * tv.to_tensor(image.resize((size, size))) - 2

    def encode_image(self, pixels):
        return encode(self.model, pixels)

    def head(self, features):
        return classify(self.model, features)

    def working_copy(self, classes, templates):
        columns = classes.head_outputs("its", self.num_classes)
        return WorkingCopy(
            copy.deepcopy(self.model), encode, lambda m, f: classify(m, f)[:, columns]
        )

    def class_weights(self, classes, templates):
        weights: Any = self.model.head
        return weights.weight[classes.head_outputs("its", self.num_classes)]

    def card(self):
        return {"weights": self.weights_hash()}


def images(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, SIDE, SIDE, generator=generator)
