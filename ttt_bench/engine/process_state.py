"""The state of the whole process, which a method must leave as it is.

Random generators and the switches of torch and numpy are shared by the methods of a command. What
one of them changes is put back before the next one runs.
"""

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ttt_bench.api.errors import MethodError

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
    "cuDNN's TF32 switch": _attribute(torch.backends.cudnn, "allow_tf32"),
    "CUDA's TF32 switch": _attribute(torch.backends.cuda.matmul, "allow_tf32"),
    "numpy's error handling": (np.geterr, lambda value: np.seterr(**value)),
}


def read() -> dict[str, Any]:
    """Return the state of every generator and every switch, by its name in messages."""
    return {name: get() for name, (get, _) in (GENERATORS | SWITCHES).items()}


def read_switches() -> dict[str, Any]:
    """Return the state of every switch, by its name in messages."""
    return {name: get() for name, (get, _) in SWITCHES.items()}


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


@contextmanager
def restored(method: str) -> Iterator[None]:
    """Put the process's state back after a method, and name the switches that it changed.

    Args:
        method: the method's name.
    """
    before = read_switches()
    with preserved():
        yield
        after = read_switches()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        print(f"{method} changed {' and '.join(changed)}; put back", file=sys.stderr)


@contextmanager
def without_exit(method: str) -> Iterator[None]:
    """Turn a method's attempt to end the process at once into an error of the method.

    Args:
        method: the method's name.

    Raises:
        MethodError: the method called `os._exit`.
    """
    process, leave = os.getpid(), os._exit

    def refuse(status: int) -> None:
        # A forked child leaves this way.
        if os.getpid() != process:
            leave(status)
        raise MethodError(f"{method} would have ended its process with os._exit({status})")

    os._exit = refuse  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        os._exit = leave
