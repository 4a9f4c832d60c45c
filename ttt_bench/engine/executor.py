"""Who works off the chunks. Every executor gives the same records; they differ in where."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from typing_extensions import override

from ttt_bench.engine.plan import Chunk
from ttt_bench.engine.processes import Processes
from ttt_bench.engine.worker import Worker
from ttt_bench.errors import UserError
from ttt_bench.records import Records


class Executor(ABC):
    """A way to work off chunks.

    Attributes:
        workers: how many the user asks for, None where that is left to the executor.
        address: of a cluster, "" for none.
    """

    def __init__(self, workers: int | None = None, address: str = "") -> None:
        self.workers = workers
        self.address = address

    @abstractmethod
    def execute(self, worker: Worker, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Records]]:
        """Finish chunks in any order, each once, and hand them over for saving.

        `worker` is ready to use in this process; others are built from `worker.job`, which can be
        pickled, and end with `Worker.leave`.
        """


class LocalExecutor(Executor):
    """`local`: in this process, or in as many others of this machine as there are workers."""

    def __init__(self, workers: int | None = None, address: str = "") -> None:
        super().__init__(workers, address)
        if address:
            raise UserError("--ray-address is for --executor ray")

    @override
    def execute(self, worker: Worker, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Records]]:
        if self.workers is None or self.workers == 1:
            with worker.expecting(chunks):
                for chunk in chunks:
                    yield chunk, worker.run(chunk)
        else:
            with Processes(worker.job, min(self.workers, len(chunks))) as processes:
                yield from processes.work_off(chunks)
