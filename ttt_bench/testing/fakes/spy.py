"""A backbone whose attributes are watched while a method uses it."""

from collections.abc import Callable
from typing import Any

from ttt_bench.api.backbone import Backbone

OnRead = Callable[[str, Any], Any]


def spy_on(backbone: Backbone, on_read: OnRead) -> Backbone:
    """Return a backbone of the same class that shares every attribute and reports every read.

    A read that happens while a property is computed is the backbone's own and not reported.

    Args:
        backbone: the one to watch. An attribute that is set on the spy is set on it.
        on_read: called with the name and the value of an attribute; returns what the reader gets.
    """
    kind: Any = type(backbone)
    depth = 0

    class Spy(kind):
        def __getattribute__(self, name: str) -> Any:
            nonlocal depth
            depth += 1
            try:
                value = super().__getattribute__(name)
            finally:
                depth -= 1
            return value if depth or name.startswith("_") else on_read(name, value)

    spy = object.__new__(Spy)
    object.__setattr__(spy, "__dict__", backbone.__dict__)
    return spy
