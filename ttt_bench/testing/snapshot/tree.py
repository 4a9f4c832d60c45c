"""Snapshots: everything that objects hold, and the differences between two snapshots by path.

`no_type_check`: see `children`.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from pathlib import PurePath
from typing import Any, no_type_check

import numpy as np
import torch
from torch import Tensor

from ttt_bench.testing.snapshot.children import Kind, children, kind_of

PLAIN = (str, int, float, complex, bytes, type(None), Enum, PurePath)
PLAIN += (np.generic, torch.dtype, torch.device)


@no_type_check
@dataclass(eq=False, slots=True)
class Node:
    """One object and what it holds.

    Attributes:
        kind: what sort of state it is.
        shown: a short value, or the name of its type.
        digest: a hash of everything below, valid in this process.
        empty: whether it is None or an empty container, as a cache is before its first use.
        norm: the Euclidean norm of a tensor of numbers, None for everything else.
        parts: the nodes below by the piece of path that leads to each, such as `.weight` or `[0]`.
    """

    kind: Kind
    shown: str
    digest: int = 0
    empty: bool = False
    norm: float | None = None
    parts: "dict[str, Node]" = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One difference between two snapshots.

    Attributes:
        path: where it is, such as `adapter.optimizer.state[0].exp_avg`.
        kind: what sort of state it is.
        added: whether there was nothing before, or only None or an empty container.
        text: the path and what happened to it.
    """

    path: str
    kind: Kind
    added: bool
    text: str


def take_snapshot(roots: dict[str, tuple[Any, Kind]]) -> Node:
    """Take a snapshot of everything that can be reached from some objects.

    Tensors and arrays are read byte for byte. An object that two others share is one node.

    Args:
        roots: the objects and the kind of state that each is, by name.
    """
    walk = _Walk()
    snapshot = Node("attribute", "roots")
    for name, (value, kind) in roots.items():
        snapshot.parts[name] = walk.node(value, kind)
    snapshot.digest = _digest(snapshot.shown, snapshot)
    return snapshot


def roots_of(snapshot: Node, names: Collection[str]) -> Node:
    """Return a snapshot of some of another's roots."""
    parts = {name: part for name, part in snapshot.parts.items() if name in names}
    chosen = Node(snapshot.kind, snapshot.shown, parts=parts)
    chosen.digest = _digest(chosen.shown, chosen)
    return chosen


def diff(before: Node, after: Node) -> list[Change]:
    """Return the differences between two snapshots, outermost first."""
    return list(_diff(before, after, "", set()))


def count_objects(snapshot: Node, without: str) -> int:
    """Count the objects of a snapshot, except those below the root called `without`."""
    return len(_reachable([snapshot])) - len(_reachable([snapshot.parts[without]])) - 1


def count_leaves(snapshot: Node, kind: Kind) -> int:
    """Count the values of a kind that have no parts themselves, None left out."""
    nodes = _reachable([snapshot]).values()
    return sum(node.kind == kind for node in nodes if not node.parts and not node.empty)


def _reachable(stack: list[Node]) -> dict[int, Node]:
    """Return these nodes and all below them, each once."""
    reached: dict[int, Node] = {}
    while stack:
        node = stack.pop()
        if id(node) not in reached:
            reached[id(node)] = node
            stack.extend(node.parts.values())
    return reached


@no_type_check
class _Walk:
    """A walk that visits every object once, so that shared parts and cycles end."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[int, bool], Node] = {}
        # Kept alive, so that no temporary object takes the identity of another.
        self.alive: list[Any] = []

    def node(self, value: Any, inherited: Kind) -> Node:
        kind = kind_of(value, inherited)
        if isinstance(value, PLAIN):
            shown = (
                f"{type(value).__name__} of {len(value)} characters"
                if isinstance(value, str | bytes) and len(value) > 40
                else repr(value)
            )
            return Node(kind, shown, hash(repr(value)), value is None)
        key = id(value), kind == "gradient"
        if key in self.nodes:
            return self.nodes[key]
        node = self.nodes[key] = Node(kind, type(value).__name__)
        self.alive.append(value)
        if isinstance(value, Tensor):
            node.shown = f"{type(value).__name__} {list(value.shape)}"
        content = _content(value)
        if content is not None:
            node.parts[""] = Node(kind, node.shown, content, norm=_norm(value))
        if content is None or isinstance(value, Tensor):
            for name, part, part_kind in children(value, kind):
                node.parts[name] = self.node(part, part_kind)
        node.empty = not node.parts and isinstance(value, list | dict | set | tuple)
        unordered = isinstance(value, set | frozenset)
        node.digest = _digest(type(value).__qualname__, node, unordered)
        return node


@no_type_check
def _content(value: Any) -> int | None:
    """Return a hash of an object that holds numbers, None for one that has parts."""
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_meta:
            return hash(repr(value))
        flat = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        content = bytes(flat.view(torch.uint8).numpy().data)
        return hash((value.dtype, value.shape, value.device, content))
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return hash((value.dtype, value.shape, value.tobytes()))
    if isinstance(value, count):
        return hash(repr(value))
    if isinstance(value, torch.Generator):
        return _content(value.get_state())
    return None


@no_type_check
def _norm(value: Any) -> float | None:
    """Return the norm of a tensor or array of floating point numbers, None for anything else."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return float(np.linalg.norm(value.astype(np.float64)))
    strided = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
    if strided and value.is_floating_point():
        # Some devices have no float64.
        return float(torch.linalg.vector_norm(value.detach().cpu().double()))
    return None


@no_type_check
def _digest(name: str, node: Node, unordered: bool = False) -> int:
    if unordered:
        return hash((name, *sorted(part.digest for part in node.parts.values())))
    return hash((name, *((part, child.digest) for part, child in node.parts.items())))


def _diff(before: Node, after: Node, path: str, met: set[tuple[int, int]]) -> Iterator[Change]:
    if before.digest == after.digest or (id(before), id(after)) in met:
        return
    met.add((id(before), id(after)))
    if before.empty:
        yield Change(path, after.kind, True, f"{path} is new ({after.shown})")
    elif not before.parts or not after.parts:
        yield Change(path, before.kind, False, f"{path} {_became(before, after)}")
    else:
        for name in {**before.parts, **after.parts}:
            old, new, inner = before.parts.get(name), after.parts.get(name), path + name
            if old is None and new is not None:
                yield Change(inner, new.kind, True, f"{inner} is new ({new.shown})")
            elif new is None and old is not None:
                yield Change(inner, old.kind, False, f"{inner} is gone")
            elif old is not None and new is not None:
                yield from _diff(old, new, inner, met)


def _became(before: Node, after: Node) -> str:
    if before.shown != after.shown:
        return f"was {before.shown} and is {after.shown}"
    if before.norm is None or after.norm is None:
        return "has changed"
    return f"has changed (norm {before.norm:.9g}, now {after.norm:.9g})"
