"""ProcessPool: workers in processes of this machine, such as one for each GPU or core."""

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from ttt_bench.api.errors import UserError
from ttt_bench.api.executor import Chain, Chunk, ChunkResult, Worker, WorkerSpec, chains
from ttt_bench.toolkit.interrupt import check_interrupted
from ttt_bench.toolkit.parent import end_with_parent

# How often the pool looks whether the user has interrupted the command.
LOOK_SECONDS = 0.5
# How many workers a chunk may kill (by memory, mostly) before the run gives up.
ATTEMPTS = 3


class ProcessPool:
    """A pool of worker processes; a dead one is replaced and its chain goes on."""

    def __init__(self, spec: WorkerSpec, number: int) -> None:
        self.specs = [_on_own_device(spec, slot) for slot in range(number)]
        # A fork would take over a GPU's state and another thread's locks.
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, tuple[int, BaseProcess]] = {}

    def __enter__(self) -> "ProcessPool":
        return self

    def __exit__(self, *error: Any) -> None:
        for connection, (_, process) in self._processes.items():
            connection.close()
            process.kill()
            process.join()

    def run_chunks(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, ChunkResult]]:
        """Yield the chunks with their records, as they are finished.

        Raises:
            UserError: a worker raised one, or one chunk has killed several workers.
        """
        waiting, running = deque(chains(chunks)), dict[Connection, Chain]()
        deaths: Counter[int] = Counter()
        for slot in range(len(self.specs)):
            self._start(slot)
        while waiting or running:
            for connection in self._processes:
                if waiting and connection not in running:
                    running[connection] = waiting.popleft()
                    _send(connection, running[connection].next())
            check_interrupted()
            for connection in wait(list(running), LOOK_SECONDS):
                assert isinstance(connection, Connection)
                chain = running[connection]
                chunk = chain.next()
                assert chunk is not None
                try:
                    result = _answer(connection)
                except EOFError:
                    del running[connection]
                    deaths[chunk.number] += 1
                    self._replace(connection, chunk, deaths[chunk.number])
                    chain.restart()
                    waiting.appendleft(chain)
                    continue
                chain.finish(result)
                following = chain.next()
                if following is None:
                    del running[connection]
                else:
                    # The worker computes on while this chunk is saved.
                    _send(connection, following)
                yield chunk, result
        for connection in self._processes:
            _send(connection, None)
            # One that died after its last chunk has nothing more to say.
            with suppress(EOFError):
                _answer(connection)

    def _start(self, slot: int) -> None:
        ours, theirs = self._context.Pipe()
        # No daemon: a worker has loader processes of its own.
        process = self._context.Process(target=_serve, args=(theirs, self.specs[slot]))
        process.start()
        # Held by the process alone, the far end tells when it dies.
        theirs.close()
        self._processes[ours] = slot, process

    def _replace(self, connection: Connection, chunk: Chunk, deaths: int) -> None:
        slot, process = self._processes.pop(connection)
        process.join()
        if deaths == ATTEMPTS:
            raise UserError(
                f"{ATTEMPTS} workers died of chunk {chunk.number} (exit {process.exitcode}; "
                "-9 is mostly too little memory); finished chunks are kept: "
                "the same command with fewer --workers continues"
            )
        self._start(slot)


def _on_own_device(spec: WorkerSpec, slot: int) -> WorkerSpec:
    """Give each worker a GPU of its own, where there are GPUs."""
    if spec.device != "cuda":
        return spec
    return spec.on_device(f"cuda:{slot % torch.cuda.device_count()}")


def _serve(connection: Connection, spec: WorkerSpec) -> None:
    """Be a worker process: receive chunks and send records until nothing more comes."""
    end_with_parent()
    # Ctrl-C reaches every process of a terminal; the main process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker: Worker | None = None
    while True:
        try:
            chunk = connection.recv()
        # The main process was killed; nobody needs the rest.
        except (EOFError, OSError):
            return
        answer: ChunkResult | UserError | None = None
        try:
            worker = worker or spec.build()
            if chunk is None:
                worker.verify_backbone()
            else:
                answer = worker.run(chunk)
        except UserError as error:
            answer = error
        try:
            connection.send(answer)
        except ConnectionError:
            return


def _send(connection: Connection, chunk: Chunk | None) -> None:
    """Ask for a chunk; a dead worker is noticed when its answer is read."""
    with suppress(ConnectionError):
        connection.send(chunk)


def _answer(connection: Connection) -> Any:
    """Receive what a process sent back.

    Raises:
        UserError: the process sent one.
        EOFError: the process is gone.
    """
    try:
        answer = connection.recv()
    # A process that is killed while it sends leaves a part of a message.
    except OSError as error:
        raise EOFError from error
    if isinstance(answer, UserError):
        raise answer
    return answer
