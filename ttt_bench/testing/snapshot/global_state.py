"""The state of the whole process, compared before and after a method."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinMethodType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from ttt_bench.engine.process_state import PYTHON, preserved, read, read_switches
from ttt_bench.testing.snapshot.tree import Node, diff, take_snapshot

__all__ = ["PYTHON", "differences", "preserved", "read", "read_switches", "seed_everything"]


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the names of the generators and switches that differ."""
    changes = diff(_snapshot(before), _snapshot(after))
    return list(dict.fromkeys(change.path.partition("[")[0] for change in changes))


def _snapshot(state: dict[str, Any]) -> Node:
    return take_snapshot({name: (value, "attribute") for name, value in state.items()})


def seed_everything(seed: int) -> None:
    """Seed the global generators of python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def substitute_python_rng() -> Iterator[random.Random]:
    """Replace python's global generator in all loaded modules except beartype's, and yield it.

    Many test suites run methods under beartype, which draws from the global generator to choose the
    items that it checks. A draw from the substitute is the method's.
    """
    substitute = random.Random(0)
    original = vars(random)["_inst"]
    replaced: list[tuple[ModuleType, str, Any]] = []
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType) or module.__name__.startswith("beartype"):
            continue
        for name, value in list(vars(module).items()):
            # type(), not isinstance(): reading `__class__` of some lazy objects warns.
            if type(value) in (MethodType, BuiltinMethodType) and value.__self__ is original:
                setattr(module, name, getattr(substitute, value.__name__))
                replaced.append((module, name, value))
    try:
        yield substitute
    finally:
        for module, name, value in replaced:
            setattr(module, name, value)
