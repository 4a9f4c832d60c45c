"""How far a worker is in a stream, and when it saves the method's state."""

import time
from collections.abc import Callable
from typing import Any

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.executor import Chunk, LostStateError
from ttt_bench.api.task import Task
from ttt_bench.engine.state.packed import EncodedState, unpack

# Saving takes at most this share of the time.
SHARE = 0.05
# What writing a state takes at least: a file made safe on disk, and its bytes on a slow one.
SECONDS_PER_FILE = 0.005
BYTES_PER_SECOND = 200e6


class StreamWorker:
    """The adapter of a stream: set up anew, put back, or left as the chunk before made it.

    Attributes:
        adapter: the adapter, None before the first chunk.
        broken: whether a chunk of this stream had unreadable images, so that none after it can be
            predicted.
    """

    def __init__(self, begin: Callable[[], Adapter[Any]], task: Task) -> None:
        """Begin outside of any stream.

        Args:
            begin: returns a new adapter, set up for its task.
            task: the task.
        """
        self._begin = begin
        self._task = task
        self.adapter: Adapter[Any] | None = None
        self.broken = False
        self._after: int | None = None
        self._saved_at = 0.0
        self._cost = 0.0

    def enter(self, chunk: Chunk) -> Adapter[Any]:
        """Return the adapter in the state in which a chunk begins.

        Raises:
            LostStateError: the chunk follows one that this worker has not just run.
            UserError: the saved state does not fit.
        """
        goes_on = chunk.follows is not None and chunk.follows == self._after
        self._after = None
        if not goes_on:
            if chunk.follows is not None and chunk.state is None:
                raise LostStateError(
                    f"chunk {chunk.number} was run without chunk {chunk.follows} before it; an "
                    "executor runs the chunks of a chain in order, in one worker"
                )
            self.adapter = self._begin()
            self.broken = False
            if chunk.state is not None:
                unpack(self.adapter, self._task, chunk.state)
            self._saved_at = time.monotonic()
        assert self.adapter is not None
        return self.adapter

    def leave(self, chunk: Chunk, broken: bool) -> None:
        """Note that a chunk has been run, and whether it had unreadable images."""
        self._after = chunk.number
        self.broken = broken

    def state_after(self, chunk: Chunk) -> bytes | None:
        """Return the state after a chunk, None where it is not needed or would cost too much.

        Raises:
            UserError: a part of it cannot be saved.
        """
        if not chunk.followed or not self._is_due():
            return None
        started = time.perf_counter()
        assert self.adapter is not None
        encoded = EncodedState(self.adapter)
        writing = SECONDS_PER_FILE + encoded.size / BYTES_PER_SECOND
        # The first estimate, before a state of gigabytes is copied.
        self._cost = max(self._cost, writing)
        if not self._is_due():
            return None
        content = encoded.pack()
        self._cost = writing + time.perf_counter() - started
        self._saved_at = time.monotonic()
        return content

    def _is_due(self) -> bool:
        return SHARE * (time.monotonic() - self._saved_at) >= self._cost
