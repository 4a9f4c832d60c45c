"""Encoding a method's state as JSON values and tensors, with nothing in it that can be run.

Objects that occur twice are encoded once, so that what attributes share is shared afterwards too.
"""

import enum
import functools
import io
import logging
import math
import random
import re
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ttt_bench.api.errors import UserError

Node = Any
# Code and constants: the new adapter has them from its own setup.
KEPT = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, type,
    functools.partial, functools._lru_cache_wrapper, np.ufunc, np.dtype, torch.dtype, torch.device,
    enum.Enum, PurePath, re.Pattern, logging.Logger, RemovableHandle,
)  # fmt: skip
# Constants among them, which have to be equal.
CONSTANTS = (torch.dtype, torch.device, np.dtype, enum.Enum, PurePath, re.Pattern)
# Their attributes are not all that they hold.
REFUSED = (
    tuple, list, set, frozenset, deque, dict, str, bytes, int, float, io.IOBase, Image.Image,
)  # fmt: skip
MAPPINGS: dict[str, type[Any]] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
TUPLES: dict[str, type[Any]] = {"tuple": tuple, "Size": torch.Size}
FACTORIES: dict[str, Any] = {one.__name__: one for one in (list, dict, set, int, float, deque)}
# What torch itself keeps on every network and optimizer.
MODULE_INTERNALS = frozenset(vars(nn.Module()))
OPTIMIZER_INTERNALS = frozenset(vars(torch.optim.SGD([torch.zeros(1)])))
# A part that stays as setup left it.
SKIPPED = {"kind": "skipped"}


class Encoder:
    """Turns objects into nodes of JSON, and collects their tensors.

    Attributes:
        tensors: the tensors by the name that nodes give them.
        nodes: the node of each tensor.
    """

    def __init__(self, given: Mapping[str, Any], package: str) -> None:
        """Begin with nothing.

        Args:
            given: what the engine gives the adapter, by path.
            package: the top-level package of the method's code.
        """
        self.tensors: dict[str, Tensor] = {}
        self.nodes: dict[str, dict[str, Any]] = {}
        self._package = package
        self._given = {id(value): path for path, value in given.items()}
        self._numbers: dict[int, int] = {}
        # Their ids stay theirs as long as they live.
        self._alive: list[Any] = []

    def encode(self, value: Any, path: str, strict: bool = True) -> Node:
        """Return the node of an object.

        Args:
            value: the object.
            path: where it is, for messages.
            strict: whether an object that cannot be saved is refused; it stays as setup left it
                otherwise.

        Raises:
            UserError: it cannot be saved.
        """
        if type(value) in (type(None), bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"kind": "float", "value": str(value)}
        if id(value) in self._given:
            return {"kind": "given", "path": self._given[id(value)]}
        if id(value) in self._numbers:
            return {"kind": "ref", "id": self._numbers[id(value)]}
        if isinstance(value, KEPT):
            constant = repr(value) if isinstance(value, CONSTANTS) else None
            return {"kind": "kept", "type": type(value).__name__, "constant": constant}
        encode = self._encoder(value)
        if encode is None:
            if not strict:
                return SKIPPED
            raise UserError(
                f"{path} is {_type_name(value)}, which cannot be saved for a run that is stopped; "
                "keep tensors, numbers, strings, lists or dicts, or write Adapter.state and "
                "Adapter.load_state"
            )
        number = self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        # The same dictionary, since the nodes of tensors are completed later.
        node = encode(value, path, strict)
        node["id"] = number
        return node

    def _encoder(self, value: Any) -> Callable[[Any, str, bool], dict[str, Any]] | None:
        """Return what encodes objects of this type, None for none."""
        for types_, encode in (
            (Tensor, self._tensor),
            (np.ndarray, self._array),
            (np.generic, self._scalar),
            (torch.Generator, self._torch_generator),
            (np.random.Generator, self._numpy_generator),
            (random.Random, self._python_generator),
            (nn.Module, self._module),
            (torch.optim.Optimizer, self._optimizer),
        ):
            if isinstance(value, types_):
                return encode
        if type(value) in (*TUPLES.values(), list, set, frozenset, deque) or is_named_tuple(value):
            return self._sequence
        if type(value) in (*MAPPINGS.values(), defaultdict):
            return self._mapping
        if isinstance(value, REFUSED):
            return None
        if callable(getattr(value, "state_dict", None)) and hasattr(value, "load_state_dict"):
            return self._stateful
        return self._object if attributes_of(value) is not None else None

    def _tensor(self, value: Tensor, path: str, strict: bool) -> dict[str, Any]:
        if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided:
            raise UserError(f"{path} is {_type_name(value)} ({value.layout}); keep plain tensors")
        name = f"{len(self.tensors):06d}"
        self.tensors[name] = value
        leaf = value.is_leaf
        node: dict[str, Any] = {
            "kind": "tensor",
            "name": name,
            "parameter": isinstance(value, nn.Parameter),
            "requires_grad": leaf and value.requires_grad,
            "on_cpu": value.device.type == "cpu",
        }
        self.nodes[name] = node
        if leaf and value.grad is not None:
            node["grad"] = self.encode(value.grad, f"{path}.grad")
        return node

    def _array(self, value: np.ndarray, path: str, strict: bool) -> dict[str, Any]:
        if value.dtype.kind not in "biufcUS" or type(value) is not np.ndarray:
            raise UserError(f"{path} is an array of {value.dtype}; keep numbers or text in arrays")
        raw = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
        data = self.encode(torch.from_numpy(raw.copy()), path)
        return {
            "kind": "array",
            "dtype": value.dtype.str,
            "shape": list(value.shape),
            "data": data,
        }

    def _scalar(self, value: np.generic, path: str, strict: bool) -> dict[str, Any]:
        return {"kind": "scalar", "array": self._array(np.asarray(value), path, strict)}

    def _torch_generator(self, value: torch.Generator, path: str, strict: bool) -> dict[str, Any]:
        return {
            "kind": "torch generator",
            "on_cpu": value.device.type == "cpu",
            "state": self.encode(value.get_state(), path),
        }

    def _numpy_generator(
        self, value: np.random.Generator, path: str, strict: bool
    ) -> dict[str, Any]:
        return {"kind": "numpy generator", "state": self.encode(value.bit_generator.state, path)}

    def _python_generator(self, value: random.Random, path: str, strict: bool) -> dict[str, Any]:
        return {"kind": "python generator", "state": self.encode(value.getstate(), path)}

    def _sequence(self, value: Any, path: str, strict: bool) -> dict[str, Any]:
        node: dict[str, Any] = {"kind": type(value).__name__}
        if isinstance(value, tuple):
            node = {"kind": "tuple", "type": type(value).__name__}
            if is_named_tuple(value):
                node["class"] = class_name(type(value))
        elif isinstance(value, deque):
            node["maxlen"] = value.maxlen
        items = enumerate(value)
        node["items"] = [self.encode(one, f"{path}[{place}]", strict) for place, one in items]
        return node

    def _mapping(self, value: Mapping[Any, Any], path: str, strict: bool) -> dict[str, Any]:
        node: dict[str, Any] = {"kind": "dict", "type": type(value).__name__}
        if isinstance(value, defaultdict):
            node["factory"] = getattr(value.default_factory, "__name__", None)
            if value.default_factory not in (None, *FACTORIES.values()):
                raise UserError(f"{path} makes its values by code of its own; keep a dict")
        node["items"] = [
            [
                self.encode(key, f"a key of {path}", strict),
                # The text of a tensor would be long.
                self.encode(one, f"{path}[{key!r}]" if isinstance(key, str) else path, strict),
            ]
            for key, one in value.items()
        ]
        return node

    def _attributes(
        self, attributes: Mapping[str, Any], path: str, strict: bool
    ) -> dict[str, Node]:
        nodes = {
            name: self.encode(value, f"{path}.{name}", strict) for name, value in attributes.items()
        }
        return {name: node for name, node in nodes.items() if node is not SKIPPED}

    def _module(self, value: nn.Module, path: str, strict: bool) -> dict[str, Any]:
        node: dict[str, Any] = {"kind": "module", "type": type(value).__name__}
        for name in ("parameters", "buffers", "modules"):
            parts = {n: part for n, part in vars(value)[f"_{name}"].items() if part is not None}
            node[name] = self._attributes(parts, path, True)
        own = {n: part for n, part in vars(value).items() if n not in MODULE_INTERNALS}
        node["attributes"] = self._attributes({"training": value.training, **own}, path, False)
        return node

    def _optimizer(self, value: torch.optim.Optimizer, path: str, strict: bool) -> dict[str, Any]:
        groups = [
            {
                "params": [self.encode(one, f"a parameter of {path}") for one in group["params"]],
                "options": self._attributes(
                    {name: one for name, one in group.items() if name != "params"}, path, True
                ),
            }
            for group in value.param_groups
        ]
        own = {n: part for n, part in vars(value).items() if n not in OPTIMIZER_INTERNALS}
        return {
            "kind": "optimizer",
            "type": type(value).__name__,
            "groups": groups,
            "state": self.encode(dict(value.state), f"{path}.state"),
            "attributes": self._attributes(own, path, False),
        }

    def _stateful(self, value: Any, path: str, strict: bool) -> dict[str, Any]:
        state = self.encode(value.state_dict(), f"{path}.state_dict()", False)
        return {"kind": "stateful", "type": type(value).__name__, "state": state}

    def _object(self, value: Any, path: str, strict: bool) -> dict[str, Any]:
        attributes = attributes_of(value)
        assert attributes is not None
        # Objects of other packages hold what no method's author can change.
        strict = strict and type(value).__module__.partition(".")[0] == self._package
        return {
            "kind": "object",
            "class": class_name(type(value)),
            "attributes": self._attributes(attributes, path, strict),
        }


def attributes_of(value: Any) -> dict[str, Any] | None:
    """Return the attributes of an instance of a plain class, None where it hides them."""
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    if hasattr(value, "__dict__"):
        return {**found, **vars(value)}
    return found if slots else None


def _slots(kind: type[Any]) -> Sequence[str]:
    slots = vars(kind).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if not name.startswith("__")]


def is_named_tuple(value: Any) -> bool:
    """Say whether an object is a named tuple."""
    return isinstance(value, tuple) and hasattr(type(value), "_fields")


def class_name(kind: type[Any]) -> str:
    """Return the module and the name of a class, as `package.module:Name`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def _type_name(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else class_name(kind)
    return f"an object of type {name.replace(':', '.')}"
