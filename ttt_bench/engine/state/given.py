"""What the engine gives an adapter: the task and everything in it, which is no state."""

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.task import Task

# Values that are equal wherever they are made, and code.
PLAIN = (
    str, bytes, int, float, complex, type(None), tuple, type,
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial,
)  # fmt: skip
MOST_PARTS = 1000


def given_objects(adapter: Adapter[Any]) -> dict[str, Any]:
    """Return the adapter, its configuration, its task and all objects in the task, by path.

    The same task gives the same paths in every process.
    """
    found: dict[str, Any] = {"adapter": adapter}
    for name in ("config", "task"):
        if hasattr(adapter, name):
            found[name] = getattr(adapter, name)
    seen = {id(value) for value in found.values()}
    # Neither recursion, whose depth is bounded, nor a queue: parts come right after their owner.
    waiting = [("task", found["task"])] if "task" in found else []
    while waiting:
        path, owner = waiting.pop()
        for name, value in _parts(owner):
            if id(value) not in seen and not isinstance(value, PLAIN):
                seen.add(id(value))
                found[f"{path}.{name}"] = value
                waiting.append((f"{path}.{name}", value))
    return found


def _parts(owner: Any) -> Iterator[tuple[str, Any]]:
    # No state of a method is in a tokenizer's vocabulary.
    if isinstance(owner, Tensor) or (isinstance(owner, Mapping | list) and len(owner) > MOST_PARTS):
        return
    if isinstance(owner, Mapping):
        yield from ((str(name), value) for name, value in owner.items())
    elif isinstance(owner, list):
        yield from ((str(place), value) for place, value in enumerate(owner))
    elif isinstance(owner, nn.Module):
        for parts in (owner._parameters, owner._buffers, owner._modules):
            yield from ((name, value) for name, value in parts.items() if value is not None)
    elif hasattr(owner, "__dict__"):
        # What the engine keeps on the task for itself begins with an underscore.
        hidden = "_" if isinstance(owner, Task) else "__"
        yield from ((n, value) for n, value in vars(owner).items() if not n.startswith(hidden))
