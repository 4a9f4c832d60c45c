"""Draws from torch's global generator that leave no trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let code that draws from torch's global generator draw from a seed.

    Afterwards the global generator is as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
