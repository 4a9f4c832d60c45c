"""Memory: a bank of test images, balanced over the predicted classes.

Source: RoTTA (Yuan, Xie and Li 2023, arXiv 2303.13899, section 3.2 and algorithm 1).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class Item:
    """An image in the memory.

    Attributes:
        pixels: the image, transformed.
        label: its predicted class.
        entropy: that of its prediction, in nats.
        age: the number of samples since it came.
    """

    pixels: Float[Tensor, "3 side side"]
    label: int
    entropy: float
    age: int = 0


class Memory:
    """A bank of at most `capacity` images, a fair share of it for each class.

    Attributes:
        capacity: the largest number of images.
        classes: the number of classes.
        age_weight: lambda_t, the weight of age in the score by which images are evicted.
        entropy_weight: lambda_u, the weight of entropy.
        items: the images, in the order in which they came.
    """

    def __init__(
        self, capacity: int, classes: int, age_weight: float = 1.0, entropy_weight: float = 1.0
    ) -> None:
        self.capacity = capacity
        self.classes = classes
        self.age_weight = age_weight
        self.entropy_weight = entropy_weight
        self.items: list[Item] = []

    def score(self, item: Item) -> float:
        """Return how readily an image is evicted: the older and the less certain, the more."""
        age = self.age_weight / (1 + math.exp(-item.age / self.capacity))
        # With a single class there is no uncertainty.
        certain = math.log(self.classes) or 1.0
        return age + self.entropy_weight * item.entropy / certain

    def add(self, item: Item) -> None:
        """Take a new image in, if there is room or a worse one to evict; then all grow older."""
        evicted = self._to_evict(item.label)
        if evicted is None:
            self.items.append(item)
        elif self.score(evicted) > self.score(item):
            self.items = [kept for kept in self.items if kept is not evicted]
            self.items.append(item)
        for kept in self.items:
            kept.age += 1

    def _to_evict(self, label: int) -> Item | None:
        """Return the image that a new one of a class must replace, None where there is room."""
        counts = [0] * self.classes
        for item in self.items:
            counts[item.label] += 1
        if counts[label] >= self.capacity / self.classes:
            candidates = [item for item in self.items if item.label == label]
        elif len(self.items) < self.capacity:
            return None
        else:
            most = max(counts)
            candidates = [item for item in self.by_class() if counts[item.label] == most]
        # Of equal scores the later one.
        return max(reversed(candidates), key=self.score)

    def by_class(self) -> list[Item]:
        """Return the images, those of the first class first."""
        return sorted(self.items, key=lambda item: item.label)

    def relative_ages(self, device: torch.device) -> Float[Tensor, " images"]:
        """Return the ages in the order of `by_class`, in units of the capacity."""
        ages = [item.age / self.capacity for item in self.by_class()]
        return torch.tensor(ages, device=device)

    def state_dict(self) -> dict[str, Any]:
        """Return the images as tensors and numbers."""
        return {"items": [vars(item).copy() for item in self.items]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the memory into a saved state."""
        self.items = [Item(**item) for item in state["items"]]
