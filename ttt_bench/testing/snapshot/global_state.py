"""What a process has only one of: random generators and the switches of torch and numpy."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import BuiltinMethodType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

Access = tuple[Callable[[], Any], Callable[[Any], Any]]


def _attribute(owner: Any, name: str) -> Access:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


PYTHON = "the random state of python"
GENERATORS: dict[str, Access] = {
    PYTHON: (random.getstate, random.setstate),
    "the random state of numpy": (np.random.get_state, np.random.set_state),
    "the random state of torch": (torch.get_rng_state, torch.set_rng_state),
    # Asking for it would start CUDA where nothing has used it.
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
        # Setting the CPU would leave a mode behind that nothing set before.
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


def look() -> dict[str, Any]:
    """Every generator's state and every switch, by what it is called in messages."""
    return {name: get() for name, (get, _) in (GENERATORS | SWITCHES).items()}


@contextmanager
def kept() -> Iterator[None]:
    """Afterwards everything is as it was, whatever a method did to it."""
    generators = {name: get() for name, (get, _) in GENERATORS.items()}
    switches = {name: get() for name, (get, _) in SWITCHES.items()}
    try:
        yield
    finally:
        for name, (get, put) in SWITCHES.items():
            if get() != switches[name]:
                put(switches[name])
        for name, (_, put) in GENERATORS.items():
            put(generators[name])


def reseed(seed: int) -> None:
    """Put the global generators somewhere else."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def decoy() -> Iterator[random.Random]:
    """A generator that everybody draws from who would draw from python's global one; but beartype.

    Many test-suites run methods under beartype, which draws from the global generator to choose the
    items that it looks at. So that its state has moved does not tell that the method moved it.
    """
    stand_in = random.Random(0)
    original = vars(random)["_inst"]
    replaced: list[tuple[ModuleType, str, Any]] = []
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType) or module.__name__.startswith("beartype"):
            continue
        for name, value in list(vars(module).items()):
            # By its type: to ask some objects for their class is to be warned of them.
            if type(value) in (MethodType, BuiltinMethodType) and value.__self__ is original:
                setattr(module, name, getattr(stand_in, value.__name__))
                replaced.append((module, name, value))
    try:
        yield stand_in
    finally:
        for module, name, value in replaced:
            setattr(module, name, value)
