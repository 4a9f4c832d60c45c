"""A picture of everything an object holds, and what differs between two pictures, by path.

For `no_type_check` see parts.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from pathlib import PurePath
from typing import Any, no_type_check

import numpy as np
import torch
from torch import Tensor

from ttt_bench.testing.snapshot.children import Kind, kind_of, parts

PLAIN = (str, int, float, complex, bytes, type(None), Enum, PurePath)
PLAIN += (np.generic, torch.dtype, torch.device)


@no_type_check
@dataclass(eq=False, slots=True)
class Node:
    """One thing and what it is made of.

    Attributes:
        kind: what sort of state it is.
        shown: a short value, or the name of its type.
        digest: of everything below; a hash that holds in this process.
        empty: None, or a container with nothing in it: what a cache is before its first use.
        parts: by the piece of path that leads to each, such as `.weight` or `[0]`.
    """

    kind: Kind
    shown: str
    digest: int = 0
    empty: bool = False
    parts: "dict[str, Node]" = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        path: such as `adapter.optimizer.state[0].exp_avg`.
        added: there was nothing before, or only None or an empty container.
        text: the path and what happened to it.
    """

    path: str
    kind: Kind
    added: bool
    text: str


def picture(roots: dict[str, tuple[Any, Kind]]) -> Node:
    """Everything that can be reached from some objects, by their names.

    Tensors and arrays are read byte for byte. What two of them share is one node.
    """
    seen = _Seen()
    root = Node("attribute", "roots")
    for name, (value, kind) in roots.items():
        root.parts[name] = seen.node(value, kind)
    root.digest = _digest(root.shown, root)
    return root


def changes(before: Node, after: Node) -> list[Change]:
    """What differs between two pictures, outermost first."""
    return list(_changes(before, after, "", set()))


def size(picture: Node, without: str) -> int:
    """How many things a picture holds, those below one of its roots left out."""
    return len(_below([picture])) - len(_below([picture.parts[without]])) - 1


def held(picture: Node, kind: Kind) -> int:
    """How many things of a kind a picture holds that have no parts themselves, None left out."""
    leaves = (node for node in _below([picture]).values() if not node.parts and not node.empty)
    return sum(node.kind == kind for node in leaves)


def _below(stack: list[Node]) -> dict[int, Node]:
    """These nodes and all that they are made of, each once."""
    found: dict[int, Node] = {}
    while stack:
        node = stack.pop()
        if id(node) not in found:
            found[id(node)] = node
            stack.extend(node.parts.values())
    return found


@no_type_check
class _Seen:
    """One walk: every object is looked at once, so shared parts and cycles end."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[int, bool], Node] = {}
        # Held, so that no temporary object takes the identity of another.
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
            node.parts[""] = Node(kind, node.shown, content)
        if content is None or isinstance(value, Tensor):
            for name, part, part_kind in parts(value, kind):
                node.parts[name] = self.node(part, part_kind)
        node.empty = not node.parts and isinstance(value, list | dict | set | tuple)
        unordered = isinstance(value, set | frozenset)
        node.digest = _digest(type(value).__qualname__, node, unordered)
        return node


@no_type_check
def _content(value: Any) -> int | None:
    """A hash of what holds numbers, None for what is made of parts."""
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
def _digest(name: str, node: Node, unordered: bool = False) -> int:
    if unordered:
        return hash((name, *sorted(part.digest for part in node.parts.values())))
    return hash((name, *((part, child.digest) for part, child in node.parts.items())))


def _changes(before: Node, after: Node, path: str, met: set[tuple[int, int]]) -> Iterator[Change]:
    if before.digest == after.digest or (id(before), id(after)) in met:
        return
    met.add((id(before), id(after)))
    if before.empty:
        yield Change(path, after.kind, True, f"{path} is new ({after.shown})")
    elif not before.parts or not after.parts:
        same = before.shown == after.shown
        became = "has changed" if same else f"was {before.shown} and is {after.shown}"
        yield Change(path, before.kind, False, f"{path} {became}")
    else:
        for name in {**before.parts, **after.parts}:
            old, new, where = before.parts.get(name), after.parts.get(name), path + name
            if old is None and new is not None:
                yield Change(where, new.kind, True, f"{where} is new ({new.shown})")
            elif new is None and old is not None:
                yield Change(where, old.kind, False, f"{where} is gone")
            elif old is not None and new is not None:
                yield from _changes(old, new, where, met)
