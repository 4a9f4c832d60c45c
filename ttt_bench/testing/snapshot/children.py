"""The parts of an object, for every type of object in which a method could keep state.

A snapshot of a network makes thousands of calls. `no_type_check` keeps the tests' runtime type
checks out of them, which would make a snapshot twenty times slower.
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

# Code rather than state, or objects that no prediction can depend on.
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
    """Return the kind of state an object is, given the kind of what holds it."""
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
def children(value: Any, kind: Kind) -> Iterator[Part]:
    """Yield the parts of an object: the piece of path that leads there, the part, its kind."""
    home = getattr(type(value), "__module__", "")
    if isinstance(value, OPAQUE) or home in ("typing", "abc", "weakref", "jaxtyping"):
        return
    if isinstance(value, Tensor):
        yield from _tensor_parts(value, kind)
    elif isinstance(value, nn.Module):
        yield from _module_parts(value, kind)
    else:
        for name, item in _same_kind_parts(value):
            yield name, item, kind


def class_state(adapter_type: type[Adapter[Any]]) -> dict[str, Any]:
    """Return the data of a method's classes and modules, and the classes' functions, by name."""
    state: dict[str, Any] = {}
    for kind in adapter_type.__mro__:
        if kind is Adapter or not issubclass(kind, Adapter):
            continue
        module = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
        for owner, members in ((kind.__name__, vars(kind)), (kind.__module__, module)):
            data = {n: v for n, v in members.items() if not n.startswith("__") and _is_data(v)}
            state |= {f"{owner}.{name}": value for name, value in data.items()}
        functions = {n: v for n, v in vars(kind).items() if isinstance(v, types.FunctionType)}
        state |= {f"{kind.__name__}.{name}": function for name, function in functions.items()}
    return state


def _is_data(value: Any) -> bool:
    holders = (dict, list, set, deque, np.ndarray, Tensor, nn.Module, torch.Generator)
    states = (torch.optim.Optimizer, np.random.Generator, random.Random, int, float, str)
    return issubclass(type(value), holders + states)


@no_type_check
def _tensor_parts(value: Tensor, kind: Kind) -> Iterator[Part]:
    yield ".requires_grad", value.requires_grad, kind
    # PyTorch warns when another tensor than a leaf is asked for its gradient.
    if value.is_leaf or value.retains_grad:
        yield ".grad", value.grad, "backbone" if kind == "backbone" else "gradient"


@no_type_check
def _module_parts(value: nn.Module, kind: Kind) -> Iterator[Part]:
    for name, parameter in value._parameters.items():
        yield f".{name}", parameter, kind
    for name, buffer in value._buffers.items():
        yield f".{name}", buffer, "backbone" if kind == "backbone" else "buffer"
    for name, module in value._modules.items():
        yield f".{name}", module, kind
    for name, item in vars(value).items():
        # PyTorch's own containers are mostly empty; hooks are the ones that matter.
        unused = name.startswith("_") and isinstance(item, dict | set) and not item
        if not unused and name not in ("_parameters", "_buffers", "_modules"):
            yield f".{name}", item, kind


@no_type_check
def _same_kind_parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of an object whose parts are of its own kind."""
    if isinstance(value, Backbone):
        yield from _backbone_parts(value)
    elif isinstance(value, Task):
        yield from _task_parts(value)
    elif isinstance(value, torch.optim.Optimizer):
        yield from _optimizer_parts(value)
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
        yield from _function_parts(value)
    elif isinstance(value, Mapping):
        for index, (key, item) in enumerate(value.items()):
            yield f"[{_name(key, index)}]", item
    elif isinstance(value, list | tuple | deque | np.ndarray):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"{{{_name(item, index)}}}", item) for index, item in enumerate(value))
    else:
        yield from _object_parts(value)


def _backbone_parts(value: Backbone) -> Iterator[tuple[str, Any]]:
    """Yield the network and the plain values; tokenizers and transforms are no method's state."""
    yield ".model", value.model
    for name, item in vars(value).items():
        if isinstance(item, int | float | str | Tensor | torch.device):
            yield f".{name}", item


def _task_parts(value: Task) -> Iterator[tuple[str, Any]]:
    """Yield the public attributes of a task, except the values that it makes on first use."""
    for name, item in vars(value).items():
        made_on_use = isinstance(getattr(type(value), name, None), functools.cached_property)
        if not name.startswith("_") and not made_on_use:
            yield f".{name}", item


def _optimizer_parts(value: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    learned = [parameter for group in value.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(learned):
        for name, item in value.state.get(parameter, {}).items():
            yield f".state[{index}].{name}", item
    for index, group in enumerate(value.param_groups):
        for name, item in group.items():
            yield f".param_groups[{index}][{name!r}]", item


def _function_parts(value: types.FunctionType) -> Iterator[tuple[str, Any]]:
    function = inspect.unwrap(value)
    if not isinstance(function, types.FunctionType):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # An empty cell belongs to a name that is not bound yet.
        with suppress(ValueError):
            yield f".{name}", cell.cell_contents
    for index, item in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{index}]", item
    for name, item in (function.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{name!r}]", item


def _object_parts(value: Any) -> Iterator[tuple[str, Any]]:
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


def _name(key: Any, index: int) -> str:
    plain = isinstance(key, str | int | float | bytes | type(None) | torch.dtype)
    return repr(key) if plain else f"{type(key).__name__} {index}"
