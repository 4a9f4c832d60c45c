"""What each kind of object is made of, as far as it is state that a method could keep.

A picture of a network asks thousands of times, so the functions that do not ask for tensors' shapes
anyway are left out of the tests' type checks, which would take twenty times as long as they do.
"""

import functools
import inspect
import random
import sys
import threading
import types
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from logging import Logger
from typing import Any, Literal, no_type_check

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.backbone import Backbone
from ttt_bench.api.task import Task

Kind = Literal[
    "parameter", "buffer", "gradient", "optimizer", "scheduler", "scaler", "attribute", "backbone"
]
Part = tuple[str, Any, Kind]

# Code rather than state, or nothing that a prediction can depend on.
OPAQUE = (
    type,
    types.ModuleType,
    types.BuiltinFunctionType,
    types.GeneratorType,
    functools._lru_cache_wrapper,
    Logger,
    type(threading.Lock()),
    type(threading.RLock()),
)


@no_type_check
def kind_of(value: Any, inherited: Kind) -> Kind:
    """The kind of state an object is, given what it was found in."""
    if inherited in ("backbone", "gradient", "buffer"):
        return inherited
    if isinstance(value, torch.optim.Optimizer):
        return "optimizer"
    if isinstance(value, LRScheduler | ReduceLROnPlateau):
        return "scheduler"
    if isinstance(value, GradScaler):
        return "scaler"
    trained = isinstance(value, Tensor) and value.is_leaf and value.requires_grad
    return "parameter" if trained or isinstance(value, nn.Parameter) else inherited


@no_type_check
def parts(value: Any, kind: Kind) -> Iterator[Part]:
    """What an object is made of: the piece of path that leads there, the part, its kind."""
    home = getattr(type(value), "__module__", "")
    if isinstance(value, OPAQUE) or home in ("typing", "abc", "weakref", "jaxtyping"):
        return
    if isinstance(value, Tensor):
        yield from _of_tensor(value, kind)
    elif isinstance(value, nn.Module):
        yield from _of_module(value, kind)
    else:
        for name, item in _of_one_kind(value):
            yield name, item, kind


def class_state(adapter: Adapter[Any]) -> dict[str, Any]:
    """What a method's classes and modules hold beside the adapter itself, by name."""
    state: dict[str, Any] = {}
    for kind in type(adapter).__mro__:
        if kind is Adapter or not issubclass(kind, Adapter):
            continue
        module = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
        for owner, members in ((kind.__name__, vars(kind)), (kind.__module__, module)):
            held = {n: v for n, v in members.items() if not n.startswith("__") and _is_data(v)}
            state |= {f"{owner}.{name}": value for name, value in held.items()}
        functions = {n: v for n, v in vars(kind).items() if isinstance(v, types.FunctionType)}
        state |= {f"{kind.__name__}.{name}": function for name, function in functions.items()}
    return state


def _is_data(value: Any) -> bool:
    holders = (dict, list, set, deque, np.ndarray, Tensor, nn.Module, torch.Generator)
    states = (torch.optim.Optimizer, np.random.Generator, random.Random, int, float, str)
    return issubclass(type(value), holders + states)


@no_type_check
def _of_tensor(value: Tensor, kind: Kind) -> Iterator[Part]:
    yield ".requires_grad", value.requires_grad, kind
    # PyTorch warns where others than leaves are asked.
    if value.is_leaf or value.retains_grad:
        yield ".grad", value.grad, "backbone" if kind == "backbone" else "gradient"


@no_type_check
def _of_module(value: nn.Module, kind: Kind) -> Iterator[Part]:
    for name, parameter in value._parameters.items():
        yield f".{name}", parameter, kind
    for name, buffer in value._buffers.items():
        yield f".{name}", buffer, "backbone" if kind == "backbone" else "buffer"
    for name, module in value._modules.items():
        yield f".{name}", module, kind
    for name, item in vars(value).items():
        # What PyTorch keeps for itself is mostly empty; hooks are what matters of it.
        unused = name.startswith("_") and isinstance(item, dict | set) and not item
        if not unused and name not in ("_parameters", "_buffers", "_modules"):
            yield f".{name}", item, kind


@no_type_check
def _of_one_kind(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of what has none of another kind than its own."""
    if isinstance(value, Backbone):
        yield from _of_backbone(value)
    elif isinstance(value, Task):
        # What is private there is the engine's.
        yield from ((f".{name}", v) for name, v in vars(value).items() if not name.startswith("_"))
    elif isinstance(value, torch.optim.Optimizer):
        yield from _of_optimizer(value)
    elif isinstance(value, np.random.Generator):
        yield ".bit_generator.state", value.bit_generator.state
    elif isinstance(value, np.random.RandomState):
        yield ".get_state()", value.get_state()
    elif isinstance(value, random.Random):
        yield ".getstate()", value.getstate()
    elif isinstance(value, Image.Image):
        yield ".tobytes()", value.tobytes()
    elif isinstance(value, functools.partial):
        yield from ((f".{name}", getattr(value, name)) for name in ("func", "args", "keywords"))
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, Mapping):
        for place, (key, item) in enumerate(value.items()):
            yield f"[{_name(key, place)}]", item
    elif isinstance(value, list | tuple | deque | np.ndarray):
        yield from ((f"[{place}]", item) for place, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"{{{_name(item, place)}}}", item) for place, item in enumerate(value))
    else:
        yield from _of_object(value)


def _of_backbone(value: Backbone) -> Iterator[tuple[str, Any]]:
    """The network and the plain values; tokenizers and transforms are the backbone's own."""
    yield ".model", value.model
    for name, item in vars(value).items():
        if isinstance(item, int | float | str | Tensor | torch.device):
            yield f".{name}", item


def _of_optimizer(value: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    learned = [parameter for group in value.param_groups for parameter in group["params"]]
    for place, parameter in enumerate(learned):
        for name, item in value.state.get(parameter, {}).items():
            yield f".state[{place}].{name}", item
    for place, group in enumerate(value.param_groups):
        for name, item in group.items():
            yield f".param_groups[{place}][{name!r}]", item


def _of_function(value: types.FunctionType) -> Iterator[tuple[str, Any]]:
    function = inspect.unwrap(value)
    if not isinstance(function, types.FunctionType):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # An empty cell belongs to a name that is not bound yet.
        with suppress(ValueError):
            yield f".{name}", cell.cell_contents
    for place, item in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{place}]", item
    for name, item in (function.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{name!r}]", item


def _of_object(value: Any) -> Iterator[tuple[str, Any]]:
    names = dict.fromkeys(getattr(value, "__dict__", {}))
    for owner in type(value).__mro__:
        slots = vars(owner).get("__slots__", ())
        names |= dict.fromkeys([slots] if isinstance(slots, str) else slots)
    missing = object()
    for name in names:
        if name in ("__dict__", "__weakref__"):
            continue
        item = getattr(value, "__dict__", {}).get(name, missing)
        item = getattr(value, name, missing) if item is missing else item
        if item is not missing:
            yield f".{name}", item


def _name(key: Any, place: int) -> str:
    plain = isinstance(key, str | int | float | bytes | type(None) | torch.dtype)
    return repr(key) if plain else f"{type(key).__name__} {place}"
