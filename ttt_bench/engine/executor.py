"""Who works off the chunks. Every executor gives the same records; they differ in where."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from typing_extensions import override

from ttt_bench.engine.plan import Chunk
from ttt_bench.engine.worker import Worker
from ttt_bench.records import Records


class Executor(ABC):
    """A way to work off chunks."""

    @abstractmethod
    def execute(self, worker: Worker, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Records]]:
        """Finish chunks in any order, each once, and hand them over for saving.

        `worker` is ready to use in this process; others are built from `worker.job`, which can be
        pickled.
        """


class LocalExecutor(Executor):
    """`local`: one chunk after another, in this process."""

    @override
    def execute(self, worker: Worker, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Records]]:
        with worker.expecting(chunks):
            for chunk in chunks:
                yield chunk, worker.run(chunk)
