"""Seeded draws from torch's global generator that leave no trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator for the code inside, and put its state back afterwards.

    For code that draws from the global generator alone, such as torchvision's transforms.

    Args:
        seed: any integer that `torch.manual_seed` takes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class GlobalGenerator:
    """Torch's global CPU generator as a part of a training that is saved.

    Use it inside `seeded`, which puts the generator's state back after the training.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state."""
        return {"state": torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Put the generator into a saved state."""
        torch.set_rng_state(state["state"])
