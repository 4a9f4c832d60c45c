"""What a method costs: FLOPs by phase, peak memory, parameters updated.

Counted on a probe of a few samples, one at a time; the timed samples run without counters.

* FLOPs are those of matrix products, convolutions and attention, two per multiply-add, by the
  formulas of `torch.utils.flop_counter`; the product of a matrix with a vector, which has none
  there, counts like the others. PyTorch's fused inference path of multi-head attention would count
  as zero, so it is switched off while counting.
* Memory is the largest sum of live tensor storages: the backbone's weights, what the method holds
  between samples, and what one sample needs on top. Workspaces inside kernels are not seen.
* Parameters updated are the distinct ones that an optimizer stepped with a gradient.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from torch.utils.module_tracker import ModuleTracker
from torch.utils.weak import WeakIdKeyDictionary

ResultT = TypeVar("ResultT")

_phase: ContextVar[str] = ContextVar("phase", default="adapted")
_counter: ContextVar["Counter | None"] = ContextVar("counter", default=None)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Book what is computed inside under `name` ("frozen", "adapted" or "setup")."""
    token = _phase.set(name)
    try:
        yield
    finally:
        _phase.reset(token)


def active_counter() -> "Counter | None":
    """Return the counter that is running, None where costs are not being counted."""
    return _counter.get()


def counting() -> bool:
    """Say whether costs are being counted."""
    return active_counter() is not None


@dataclass(frozen=True)
class Charge:
    """The counted cost of a piece of work, to be charged again where its result is reused.

    Attributes:
        flops: by phase, then "forward" or "backward".
        peak_bytes: what it added at its peak to the live tensors before it.
    """

    flops: Mapping[str, Mapping[str, int]]
    peak_bytes: int


class LiveTensors(TorchDispatchMode):
    """Follows the bytes of every storage that an operation returns until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = WeakIdKeyDictionary()
        self.bytes = 0
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {id(leaf.untyped_storage()) for leaf in _tensors((args, kwargs))}
        for leaf in _tensors(result):
            storage = leaf.untyped_storage()
            # A view or an in-place result lives in a storage that was there before.
            if id(storage) in inputs or storage in self.seen:
                continue
            self.seen[storage] = storage.nbytes()
            self.bytes += storage.nbytes()
            weakref.finalize(storage, self._freed, storage.nbytes()).atexit = False
        self.peak = max(self.peak, self.bytes)
        return result

    def _freed(self, size: int) -> None:
        self.bytes -= size


def _matrix_vector_flops(matrix: Tensor, vector: Tensor, **_: Any) -> int:
    return 2 * matrix.numel()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class Counter:
    """Counts everything that runs inside its `with` block.

    Attributes:
        flops: by phase, then "forward" or "backward".
        peak_bytes: of live tensors made inside, at their largest.
        live_bytes: of those still alive.
        parameters: numbers of elements that optimizers stepped, by parameter.
    """

    def __init__(self) -> None:
        self.flops: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.parameters: dict[int, int] = {}
        self._memory = LiveTensors()
        self._tracker = ModuleTracker()
        formulas = {**flop_registry, torch.ops.aten.mv: _matrix_vector_flops}
        self._counter = FlopCounterMode(
            display=False, custom_mapping={op: self._book(f) for op, f in formulas.items()}
        )

    def _book(self, formula: Callable[..., int]) -> Callable[..., int]:
        def count(*args: Any, **kwargs: Any) -> int:
            flops = formula(*args, **kwargs)
            direction = "backward" if self._tracker.is_bw else "forward"
            self.flops[_phase.get()][direction] += flops
            return flops

        count._get_raw = True  # pyright: ignore[reportFunctionMemberAccess]
        return count

    def count_apart(self, work: Callable[[], ResultT]) -> tuple[ResultT, Charge]:
        """Return the result of some work, and what it costs by itself; it is counted as usual."""
        before = {phase: dict(directions) for phase, directions in self.flops.items()}
        start, peak = self._memory.bytes, self._memory.peak
        self._memory.peak = start
        result = work()
        flops = {
            phase: {
                direction: count - before.get(phase, {}).get(direction, 0)
                for direction, count in directions.items()
            }
            for phase, directions in self.flops.items()
        }
        charge = Charge(flops, self._memory.peak - start)
        self._memory.peak = max(peak, self._memory.peak)
        return result, charge

    def charge(self, charge: Charge) -> None:
        """Add a cost that was counted before."""
        for phase_name, directions in charge.flops.items():
            for direction, count in directions.items():
                self.flops[phase_name][direction] += count
        self._memory.peak = max(self._memory.peak, self._memory.bytes + charge.peak_bytes)

    def _stepped(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            self.parameters.update(
                {id(p): p.numel() for p in group["params"] if p.grad is not None}
            )

    def __enter__(self) -> "Counter":
        self._fastpath = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        self._hook = register_optimizer_step_post_hook(self._stepped)
        self._memory.__enter__()
        self._counter.__enter__()
        self._token = _counter.set(self)
        return self

    def __exit__(self, *error: Any) -> None:
        _counter.reset(self._token)
        self._counter.__exit__(*error)
        self._memory.__exit__(*error)
        self._hook.remove()
        torch.backends.mha.set_fastpath_enabled(self._fastpath)

    @property
    def peak_bytes(self) -> int:
        """Largest sum of live tensor storages made inside."""
        return self._memory.peak

    @property
    def live_bytes(self) -> int:
        """What is still alive of them."""
        return self._memory.bytes


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock read next to this means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
