"""Executor: where the chunks of a run are computed, and what an executor is given."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ttt_bench.api.records import Records


@dataclass(frozen=True)
class Chunk:
    """Samples that are finished, saved and lost together.

    Attributes:
        number: its place in the plan; names its file.
        indices: the dataset's entries in it, in the order of the records.
        batches: the same entries as the method gets them, where the plan fixes the batches (kinds
            `batch` and `stream`); empty where `--batch-size` may cut them anyhow.
    """

    number: int
    indices: tuple[int, ...]
    batches: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class UnreadableImages:
    """The result of a chunk that has unreadable images: nothing was predicted.

    Attributes:
        problems: for each such image its entry's index and a message that names the file.
    """

    problems: tuple[tuple[int, str], ...]


ChunkResult = Records | UnreadableImages


@runtime_checkable
class Worker(Protocol):
    """One method on one backbone and dataset; turns chunks into records."""

    @property
    def spec(self) -> "WorkerSpec":
        """What another process needs to build the same worker."""
        ...

    def run(self, chunk: Chunk) -> ChunkResult:
        """Compute the records of one chunk, or find its unreadable images.

        Raises:
            UserError: the method fails.
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


@runtime_checkable
class WorkerSpec(Protocol):
    """Everything that says what a worker does, by name; it can be pickled and sent anywhere."""

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

    def build(self) -> Worker:
        """Load method, backbone and dataset.

        Raises:
            UserError: one of them cannot be loaded.
        """
        ...


class Executor(ABC):
    """A way to compute chunks.

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
        """Compute chunks in any order and yield each once, with what `Worker.run` returned.

        `worker` is ready to use in this process. Others are built elsewhere by
        `worker.spec.build()`; each of them ends with `verify_backbone`.
        """
