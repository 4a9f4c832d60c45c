"""Decoding a method's state into a new adapter, whose networks and parameters stay the objects."""

import random
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ttt_bench.api.errors import UserError
from ttt_bench.engine.state.encode import (
    CONSTANTS,
    FACTORIES,
    MAPPINGS,
    TUPLES,
    Node,
    attributes_of,
    class_name,
)

SETS: dict[str, type[Any]] = {"set": set, "frozenset": frozenset}
BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


class Decoder:
    """Turns nodes of JSON back into objects.

    Networks, optimizers, parameters and instances of classes are those that the new adapter has at
    the same path, with the saved values in them. Everything else is new.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        given: Mapping[str, Any],
        package: str,
        device: torch.device,
    ) -> None:
        """Begin with nothing decoded.

        Args:
            tensors: the saved tensors by name, on the CPU.
            given: what the engine gives the new adapter, by path.
            package: the top-level package of the method's code; objects of its classes are made.
            device: the device of the task.
        """
        self._tensors = tensors
        self._given = given
        self._given_ids = {id(value) for value in given.values()}
        self._given_storages = {_storage(v) for v in given.values() if isinstance(v, Tensor)}
        self._package = package
        self._device = device
        self._objects: dict[int, Any] = {}
        # Objects of the new adapter that hold saved values by now.
        self._used: dict[int, Any] = {}
        # The memory of each block of tensors that overlap.
        self._blocks: dict[str, Tensor] = {}

    def decode(self, node: Node, existing: Any, path: str) -> Any:
        """Return the object of a node.

        Args:
            node: the node.
            existing: what the new adapter has at the same path, None for nothing.
            path: where it is, for messages.

        Raises:
            UserError: the new adapter lacks what has to be there.
        """
        if not isinstance(node, dict):
            return node
        kind = node["kind"]
        if kind == "float":
            return float(node["value"])
        if kind == "ref":
            return self._objects[node["id"]]
        if kind == "skipped":
            return existing
        if kind == "given":
            return self._given_at(node["path"], existing, path)
        if kind == "kept":
            return self._kept(node, existing, path)
        decoders: dict[str, Callable[[dict[str, Any], Any, str], Any]] = {
            "tensor": self._tensor,
            "array": self._array,
            "scalar": self._scalar,
            "torch generator": self._torch_generator,
            "numpy generator": self._numpy_generator,
            "python generator": self._python_generator,
            "tuple": self._tuple,
            "dict": self._mapping,
            "list": self._sequence,
            "deque": self._sequence,
            "set": self._set,
            "frozenset": self._set,
            "module": self._module,
            "optimizer": self._optimizer,
            "stateful": self._stateful,
            "object": self._object,
        }
        return decoders[kind](node, existing, path)

    def _note(self, node: Mapping[str, Any], value: Any) -> Any:
        """Remember an object, before its parts are decoded: they may refer to it."""
        if "id" in node:
            self._objects[node["id"]] = value
        return value

    def _take(self, node: Mapping[str, Any], existing: Any, path: str, type_name: str) -> Any:
        """Take the new adapter's own object for a node, once.

        Raises:
            UserError: there is none of this type.
        """
        if type(existing).__name__ != type_name or id(existing) in self._used:
            raise UserError(
                f"{path} is not there after setup, and a saved {type_name} cannot be put back; "
                "make it in setup"
            )
        self._used[id(existing)] = existing
        return self._note(node, existing)

    def _given_at(self, place: str, existing: Any, path: str) -> Any:
        if place in self._given:
            return self._given[place]
        if id(existing) in self._given_ids:
            return existing
        raise UserError(f"{path} is {place}, which is not there after setup; ask for it in setup")

    def _kept(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        same = type(existing).__name__ == node["type"]
        if not same or (isinstance(existing, CONSTANTS) and repr(existing) != node["constant"]):
            raise UserError(
                f"{path} is {node['constant'] or node['type']}, which setup does not make; keep a "
                "number or a string"
            )
        return existing

    def _tensor(self, node: Mapping[str, Any], existing: Any, path: str) -> Tensor:
        saved = self._saved(node)
        if self._takes_values(existing, saved, node):
            self._used[id(existing)] = existing
            with torch.no_grad():
                existing.copy_(saved)
            if existing.is_leaf:
                existing.requires_grad_(node["requires_grad"])
            tensor = existing
        else:
            tensor = saved
            if node["parameter"]:
                tensor = nn.Parameter(tensor, requires_grad=False)
            tensor.requires_grad_(node["requires_grad"])
        self._note(node, tensor)
        if tensor.is_leaf:
            gradient = node.get("grad")
            tensor.grad = None if gradient is None else self.decode(gradient, None, path)
        return tensor

    def _saved(self, node: Mapping[str, Any]) -> Tensor:
        """Return a new tensor with the saved values, sharing memory where the saved one did."""
        device = torch.device("cpu") if node["on_cpu"] else self._device
        value = self._tensors[node.get("block", node["name"])]
        if "block" in node:
            if node["block"] not in self._blocks:
                self._blocks[node["block"]] = value.to(device, copy=True)
            raw = self._blocks[node["block"]][node["offset"] : node["offset"] + node["bytes"]]
            typed = raw.view(getattr(torch, node["dtype"]))
            return typed.as_strided(node["shape"], node["stride"])
        if "stride" not in node:
            return value.to(device, copy=True)
        strided = torch.empty_strided(value.shape, node["stride"], dtype=value.dtype, device=device)
        return strided.copy_(value)

    def _takes_values(self, existing: Any, saved: Tensor, node: Mapping[str, Any]) -> bool:
        """Say whether an existing tensor is to hold the saved values: a parameter or a buffer."""
        return (
            isinstance(existing, Tensor)
            and (
                node.get("in place") or isinstance(existing, nn.Parameter) or existing.requires_grad
            )
            and existing.is_leaf
            and isinstance(existing, nn.Parameter) == node["parameter"]
            and id(existing) not in self._used
            and _storage(existing) not in self._given_storages
            and (existing.shape, existing.dtype) == (saved.shape, saved.dtype)
            and (existing.device.type == "cpu") == node["on_cpu"]
        )

    def _array(self, node: Mapping[str, Any], existing: Any, path: str) -> np.ndarray:
        raw = self.decode(node["data"], None, path).numpy().tobytes()
        array = np.frombuffer(raw, np.dtype(node["dtype"])).reshape(node["shape"]).copy()
        return self._note(node, array)

    def _scalar(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        return self._note(node, self._array(node["array"], None, path)[()])

    def _torch_generator(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        device = "cpu" if node["on_cpu"] else self._device
        generator = torch.Generator(device)
        generator.set_state(self.decode(node["state"], None, path))
        return self._note(node, generator)

    def _numpy_generator(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        state = self.decode(node["state"], None, path)
        if state["bit_generator"] not in BIT_GENERATORS:
            raise UserError(f"{path} is no generator of numpy; keep np.random.default_rng()")
        generator = np.random.Generator(getattr(np.random, state["bit_generator"])())
        generator.bit_generator.state = state
        return self._note(node, generator)

    def _python_generator(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        generator = random.Random()
        generator.setstate(self.decode(node["state"], None, path))
        return self._note(node, generator)

    def _items(self, node: Mapping[str, Any], existing: Any, path: str) -> list[Any]:
        before = list(existing) if isinstance(existing, (list, tuple, deque)) else []
        before += [None] * (len(node["items"]) - len(before))
        return [
            self.decode(item, one, f"{path}[{place}]")
            for place, (item, one) in enumerate(zip(node["items"], before, strict=False))
        ]

    def _tuple(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        items = self._items(node, existing, path)
        if "class" in node:
            kind = self._class(node["class"], existing, path)
            return self._note(node, kind(*items))
        return self._note(node, TUPLES[node["type"]](items))

    def _sequence(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        values = deque(maxlen=node["maxlen"]) if node["kind"] == "deque" else []
        self._note(node, values)
        values.extend(self._items(node, existing, path))
        return values

    def _set(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        return self._note(node, SETS[node["kind"]](self._items(node, None, path)))

    def _mapping(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        if node["type"] == "defaultdict":
            name = node["factory"]
            values = defaultdict(None if name is None else FACTORIES[name])
        else:
            values = MAPPINGS[node["type"]]()
        self._note(node, values)
        before = existing if isinstance(existing, Mapping) else {}
        for key_node, item in node["items"]:
            key = self.decode(key_node, None, path)
            one = before.get(key) if isinstance(key, str | int | float | bool | tuple) else None
            values[key] = self.decode(item, one, f"{path}[{key!r}]" if type(key) is str else path)
        return values

    def _module(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        module = self._take(node, existing, path, node["type"])
        for name in ("parameters", "buffers", "modules"):
            parts = vars(module)[f"_{name}"]
            for part in [part for part in parts if part not in node[name]]:
                parts[part] = None
            for part, inner in node[name].items():
                if name == "buffers" and inner["kind"] == "tensor":
                    inner = {**inner, "in place": True}
                parts[part] = self.decode(inner, parts.get(part), f"{path}.{part}")
        self._set_attributes(module, node["attributes"], path, keep=True)
        return module

    def _optimizer(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        optimizer = self._take(node, existing, path, node["type"])
        groups = optimizer.param_groups
        if len(groups) != len(node["groups"]):
            raise UserError(f"{path} has {len(groups)} groups after setup; make all of them there")
        for group, saved in zip(groups, node["groups"], strict=True):
            before = [*group["params"], *[None] * len(saved["params"])]
            # Options first: they may refer to nothing else.
            group |= {
                name: self.decode(inner, group.get(name), f"{path}.{name}")
                for name, inner in saved["options"].items()
            }
            group["params"][:] = [
                self.decode(inner, one, f"a parameter of {path}")
                for inner, one in zip(saved["params"], before, strict=False)
            ]
        state = self.decode(node["state"], None, f"{path}.state")
        optimizer.state.clear()
        optimizer.state.update(state)
        self._set_attributes(optimizer, node["attributes"], path, keep=True)
        return optimizer

    def _stateful(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        one = self._take(node, existing, path, node["type"])
        one.load_state_dict(self.decode(node["state"], one.state_dict(), path))
        return one

    def _object(self, node: Mapping[str, Any], existing: Any, path: str) -> Any:
        kind = self._class(node["class"], existing, path)
        usable = type(existing) is kind and id(existing) not in self._used
        one = existing if usable and id(existing) not in self._given_ids else object.__new__(kind)
        self._used[id(one)] = one
        self._note(node, one)
        own = kind.__module__.partition(".")[0] == self._package
        self._set_attributes(one, node["attributes"], path, keep=not own)
        return one

    def _set_attributes(self, owner: Any, nodes: Mapping[str, Any], path: str, keep: bool) -> None:
        """Set the saved attributes of an object.

        Args:
            owner: the object.
            nodes: the attributes.
            path: where the object is.
            keep: whether attributes that were not saved stay.
        """
        before = attributes_of(owner) or {}
        for name in before.keys() - nodes.keys():
            if not keep:
                object.__delattr__(owner, name)
        for name, node in nodes.items():
            value = self.decode(node, before.get(name), f"{path}.{name}")
            # As it is, whatever the class does when an attribute is set.
            object.__setattr__(owner, name, value)

    def _class(self, name: str, existing: Any, path: str) -> type[Any]:
        """Return the class of that name: the existing object's, or one of the method's package.

        Raises:
            UserError: it is neither; no other class is looked up for a saved state.
        """
        if class_name(type(existing)) == name:
            return type(existing)
        module, _, qualified = name.partition(":")
        found: Any = sys.modules.get(module) if module.split(".")[0] == self._package else None
        for part in qualified.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, type):
            raise UserError(
                f"{path} is {name.replace(':', '.')}, which setup does not make; make it in setup, "
                "or write Adapter.state and Adapter.load_state"
            )
        return found


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
