"""Run: what hooks are told of a run, as plain JSON values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    """A run as hooks see it; every field is a plain JSON value.

    Attributes:
        method: the method's name.
        dataset: the dataset's name.
        backbone: the backbone's name.
        card: the protocol card, its parts `protocol` and `method`.
        n: how many samples the run has.
        finished: how many of them were saved when the command started.
        correct: how many of the finished ones are predicted right.
        chunks: how many chunks the run has.
        path: the run's folder.
        title: what the command calls the run: its name, or its method with what was typed beside
            it.
    """

    method: str
    dataset: str
    backbone: str
    card: Mapping[str, Any]
    n: int
    finished: int
    correct: int
    chunks: int
    path: str
    title: str
