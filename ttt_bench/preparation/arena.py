"""Arena: memory that loader processes fill and the main process reads, without a copy between."""

import mmap
from bisect import insort
from contextlib import suppress
from typing import Any

import numpy as np
import torch

ALIGNMENT = 64


class Arena:
    """A block of shared memory, given out in regions by the main process.

    Processes that are forked after it was made share it. It is no file: the limits on shared memory
    files in containers do not apply.
    """

    def __init__(self, size: int, pinned: bool = False) -> None:
        """Reserve memory; the system provides what is written to.

        Args:
            size: in bytes.
            pinned: whether it is pinned, so that copies to a GPU run beside computation.
        """
        self.size = _aligned(size)
        self.memory = mmap.mmap(-1, self.size)
        # Free regions as (start, size), in order and never adjacent.
        self._free = [(0, self.size)]
        if pinned:
            self._pin()

    def reserve(self, size: int) -> int | None:
        """Return the start of a free region, None where there is none of that size."""
        size = _aligned(size)
        for place, (start, free) in enumerate(self._free):
            if free >= size:
                self._free[place : place + 1] = [(start + size, free - size)] if free > size else []
                return start
        return None

    def release(self, start: int, size: int) -> None:
        """Give a region back."""
        insort(self._free, (start, _aligned(size)))
        merged: list[tuple[int, int]] = []
        for begin, length in self._free:
            if merged and sum(merged[-1]) == begin:
                merged[-1] = merged[-1][0], merged[-1][1] + length
            else:
                merged.append((begin, length))
        self._free = merged

    def array(
        self, start: int, shape: tuple[int, ...], dtype: str | type[np.generic]
    ) -> np.ndarray:
        """Return an array in the memory, from byte `start` on."""
        return np.ndarray(shape, dtype, self.memory, start)

    def _pin(self) -> None:
        address = np.frombuffer(self.memory, np.uint8).ctypes.data
        # Where it is refused, copies wait and are right all the same.
        with suppress(RuntimeError):
            runtime: Any = torch.cuda.cudart()
            torch.cuda.check_error(runtime.cudaHostRegister(address, self.size, 0))


def _aligned(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
