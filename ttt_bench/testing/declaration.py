"""`@check`: a check declares its place in the list and the kinds of method it is asked of.

The modules under `ttt_bench.testing.checks` import torch inside their functions only, so that the
list of checks is made at once.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttt_bench.api.specs import Kind
from ttt_bench.testing.outcome import Finding

if TYPE_CHECKING:
    from ttt_bench.testing.method import MethodUnderTest

CheckFunction = Callable[["MethodUnderTest"], Finding]
EVERY_KIND: frozenset[Kind] = frozenset({"sample", "batch", "stream"})
# Methods that forget a batch, or a sample, once it is predicted.
FORGETTING: frozenset[Kind] = frozenset({"sample", "batch"})
# Methods that are given whole batches of their configuration's size.
BATCHED: frozenset[Kind] = frozenset({"batch", "stream"})


@dataclass(frozen=True)
class Declaration:
    """A check as it is declared; its id is the name of its function.

    Attributes:
        function: checks a method.
        kinds: the kinds of method it is asked of.
        order: its place in the list.
    """

    function: CheckFunction
    kinds: Set[Kind]
    order: int


DECLARATIONS: dict[str, Declaration] = {}


def check(*, order: int, kinds: Set[Kind] = EVERY_KIND) -> Callable[[CheckFunction], CheckFunction]:
    """Declare a function as a check.

    Args:
        order: its place in the list.
        kinds: the kinds of method it is asked of, see `AdapterSpec.kind`.
    """

    def declare(function: CheckFunction) -> CheckFunction:
        DECLARATIONS[function.__name__] = Declaration(function, kinds, order)
        return function

    return declare
