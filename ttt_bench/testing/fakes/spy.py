"""A backbone as a check lends it to a method: its own class and attributes, but overheard."""

from collections.abc import Callable
from typing import Any

from ttt_bench.api.backbone import Backbone

Overhear = Callable[[str, Any], Any]


def lend(backbone: Backbone, overhear: Overhear) -> Backbone:
    """The same backbone, every attribute of which passes through a function first.

    Args:
        overhear: from the name of an attribute and its value to what the reader gets.
    """
    kind: Any = type(backbone)

    class Lent(kind):
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            return value if name.startswith("_") else overhear(name, value)

    lent = object.__new__(Lent)
    # The same dictionary: what a method writes there is found on the original.
    object.__setattr__(lent, "__dict__", backbone.__dict__)
    return lent
