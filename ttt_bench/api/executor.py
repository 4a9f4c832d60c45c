"""Executor: where the chunks of a run are computed, and what an executor is given."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from ttt_bench.api.errors import UserError
from ttt_bench.api.records import Records


@dataclass(frozen=True)
class Chunk:
    """Samples that are finished, saved and lost together.

    Attributes:
        number: its place in the plan; names its file.
        indices: the dataset's entries in it, in the order of the records.
        batches: the same entries as the method gets them, where the plan fixes the batches (kinds
            `batch` and `stream`); empty where `--batch-size` may cut them anyhow.
        stream: the stream that the batches are from; None where there are no streams.
        position: the place of its first sample in the stream, from 0.
        follows: the number of the chunk whose state it goes on from; None for a new start.
        followed: whether another chunk goes on from its state.
        state: the method's state after the chunk that it follows, where a chain begins in its
            middle; None elsewhere.
    """

    number: int
    indices: tuple[int, ...]
    batches: tuple[tuple[int, ...], ...] = ()
    stream: str | None = None
    position: int = 0
    follows: int | None = None
    followed: bool = False
    state: bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class UnreadableImages:
    """The result of a chunk that has unreadable images: nothing was predicted.

    Attributes:
        problems: for each such image its entry's index and a message that names the file.
    """

    problems: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class RecordsWithState:
    """The records of a chunk of a stream, with the method's state after it.

    Attributes:
        records: the records.
        state: the bytes of the state, from which the next chunk can go on anywhere.
    """

    records: Records
    state: bytes = field(repr=False)


ChunkResult = Records | RecordsWithState | UnreadableImages


def without_state(result: Records | RecordsWithState) -> Records:
    """Return the records of a chunk alone."""
    return result.records if isinstance(result, RecordsWithState) else result


class LostStateError(UserError):
    """A chunk that was run where the state of the chunk before it is not."""


class Chain:
    """Chunks that one worker runs in order, and from where they go on when the worker is lost.

    A chunk of a method of kind `stream` goes on from the state of the chunk before it. Chunks of
    other methods are chains of one.

    Attributes:
        chunks: the chunks, in order.
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = tuple(chunks)
        self._begin = self._next = 0
        # Held until a later state comes: a new worker goes on from it.
        self._state = self.chunks[0].state

    def next(self) -> Chunk | None:
        """Return the chunk to run now, None after the last; the same one until it is finished."""
        if self._next == len(self.chunks):
            return None
        chunk = self.chunks[self._next]
        return replace(chunk, state=self._state if self._next == self._begin else None)

    def finish(self, result: ChunkResult) -> None:
        """Note that the chunk which `next` returned is finished.

        Args:
            result: what `Worker.run` returned for it.
        """
        self._next += 1
        if isinstance(result, RecordsWithState):
            self._begin, self._state = self._next, result.state

    def restart(self) -> None:
        """Go back to the last state, after the worker that ran the chain is lost."""
        self._next = self._begin


def chains(chunks: Sequence[Chunk]) -> list[Chain]:
    """Share chunks out into chains; each has to run in order in one worker.

    Args:
        chunks: the chunks that `Executor.execute` got, in their order.
    """
    parts: list[list[Chunk]] = []
    for chunk in chunks:
        goes_on = parts and chunk.follows is not None and chunk.state is None
        if goes_on and parts[-1][-1].number == chunk.follows:
            parts[-1].append(chunk)
        else:
            parts.append([chunk])
    return [Chain(part) for part in parts]


@runtime_checkable
class Worker(Protocol):
    """One method on one backbone and dataset; turns chunks into records."""

    @property
    def spec(self) -> "WorkerSpec":
        """What another process needs to build the same worker."""
        ...

    def run(self, chunk: Chunk) -> ChunkResult:
        """Compute the records of one chunk, or find its unreadable images.

        A chunk that follows another goes on from the state of that chunk where this worker has just
        run it, and from `Chunk.state` elsewhere.

        Raises:
            UserError: the method fails.
            LostStateError: the chunk follows another, and this worker has no state of that one.
        """
        ...

    def prefetching(self, chunks: Sequence[Chunk]) -> AbstractContextManager[None]:
        """Return a context in which `run` gets these chunks in this order."""
        ...

    def verify_backbone(self) -> None:
        """Check, when all chunks are done, that the method left the backbone as it was.

        Raises:
            UserError: its weights changed.
        """
        ...

    def left_over(self) -> Any:
        """Return what the next worker of this process can use again, such as the backbone."""
        ...


@runtime_checkable
class WorkerSpec(Protocol):
    """Everything that says what a worker does, by name; it can be pickled and sent anywhere."""

    @property
    def method(self) -> str:
        """The name of the method."""
        ...

    @property
    def device(self) -> str:
        """The device it computes on: `cpu`, `cuda`, `cuda:1` or `mps`."""
        ...

    def on_device(self, device: str) -> "WorkerSpec":
        """Return the same spec for another device."""
        ...

    @property
    def loaders(self) -> int:
        """How many processes prepare samples for it."""
        ...

    def with_loaders(self, number: int) -> "WorkerSpec":
        """Return the same spec with another number of loaders."""
        ...

    def build(self, left_over: Any = None) -> Worker:
        """Load method, backbone and dataset.

        Args:
            left_over: what `left_over` of this process's last worker returned, None for nothing.

        Raises:
            UserError: one of them cannot be loaded.
        """
        ...


class Executor(ABC):
    """A way to compute chunks; one executor serves all runs of a command.

    Attributes:
        argument: the part after the colon in `--executor NAME:ARGUMENT`, "" for none.
        workers: how many the user asks for, None to leave it to the executor.
    """

    def __init__(self, argument: str = "", workers: int | None = None) -> None:
        self.argument = argument
        self.workers = workers

    @abstractmethod
    def execute(
        self, worker: Worker, chunks: Sequence[Chunk]
    ) -> Iterator[tuple[Chunk, ChunkResult]]:
        """Compute chunks and yield each as it is finished, with what `Worker.run` returned.

        `worker` is ready to use in this process. Others are built elsewhere by
        `worker.spec.build()`; each of them ends with `verify_backbone`.

        `chains(chunks)` says what may be shared out: chains run in any order, the chunks of one
        chain in their order in one worker, nothing in between. Where a worker is lost, its chain is
        run by another worker from the last state (`Chain.restart`), and the chunks since then are
        yielded again.
        """

    def close(self) -> None:  # noqa: B027 (most executors keep nothing)
        """End what is kept between runs, such as worker processes; called after the last run."""
