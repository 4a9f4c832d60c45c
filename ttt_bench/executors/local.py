"""LocalExecutor: chunks computed on this machine."""

from collections.abc import Iterator, Sequence

from typing_extensions import override

from ttt_bench.api.executor import Chunk, ChunkResult, Executor, Worker, chains
from ttt_bench.executors.processes import ProcessPool


class LocalExecutor(Executor):
    """`local`: in this process, or in `--workers` other processes of this machine."""

    def __init__(self, argument: str = "", workers: int | None = None) -> None:
        super().__init__(argument, workers)
        self._pool = ProcessPool()

    @override
    def execute(
        self, worker: Worker, chunks: Sequence[Chunk]
    ) -> Iterator[tuple[Chunk, ChunkResult]]:
        if self.workers is None or self.workers == 1:
            with worker.prefetching(chunks):
                for chunk in chunks:
                    yield chunk, worker.run(chunk)
        else:
            number = min(self.workers, len(chains(chunks)))
            yield from self._pool.run_chunks(worker.spec, number, chunks)

    @override
    def close(self) -> None:
        self._pool.close()
