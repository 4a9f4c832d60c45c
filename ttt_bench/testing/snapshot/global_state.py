"""The state of the whole process: random generators, and the switches of torch and numpy."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import BuiltinMethodType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from ttt_bench.testing.snapshot.tree import Node, diff, take_snapshot

Access = tuple[Callable[[], Any], Callable[[Any], Any]]


def _attribute(owner: Any, name: str) -> Access:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


PYTHON = "the random state of python"
GENERATORS: dict[str, Access] = {
    PYTHON: (random.getstate, random.setstate),
    "the random state of numpy": (np.random.get_state, np.random.set_state),
    "the random state of torch": (torch.get_rng_state, torch.set_rng_state),
    # Reading it would start CUDA where nothing has used it.
    "the random state of CUDA": (
        lambda: torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None,
        lambda states: states and torch.cuda.set_rng_state_all(states),
    ),
}
SWITCHES: dict[str, Access] = {
    "torch's grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (
        torch.get_default_device,
        # Setting the CPU would leave a mode that was not there before.
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    ),
    "torch's deterministic mode": (
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
    ),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's anomaly detection": (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    "torch's autocast on the CPU": (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda value: torch.set_autocast_enabled("cpu", value),
    ),
    "torch's attention fast path": (
        torch.backends.mha.get_fastpath_enabled,
        torch.backends.mha.set_fastpath_enabled,
    ),
    "cuDNN's deterministic switch": _attribute(torch.backends.cudnn, "deterministic"),
    "cuDNN's benchmark switch": _attribute(torch.backends.cudnn, "benchmark"),
    "numpy's error handling": (np.geterr, lambda value: np.seterr(**value)),
}


def read() -> dict[str, Any]:
    """Return the state of every generator and every switch, by its name in messages."""
    return {name: get() for name, (get, _) in (GENERATORS | SWITCHES).items()}


def read_switches() -> dict[str, Any]:
    """Return the state of every switch, by its name in messages."""
    return {name: get() for name, (get, _) in SWITCHES.items()}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the names of the generators and switches that differ."""
    changes = diff(_snapshot(before), _snapshot(after))
    return list(dict.fromkeys(change.path.partition("[")[0] for change in changes))


def _snapshot(state: dict[str, Any]) -> Node:
    return take_snapshot({name: (value, "attribute") for name, value in state.items()})


@contextmanager
def preserved() -> Iterator[None]:
    """Put generators and switches back at the end of a `with` block."""
    generators = {name: get() for name, (get, _) in GENERATORS.items()}
    switches = read_switches()
    try:
        yield
    finally:
        for name, (get, put) in SWITCHES.items():
            if get() != switches[name]:
                put(switches[name])
        for name, (_, put) in GENERATORS.items():
            put(generators[name])


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
