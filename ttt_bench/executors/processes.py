"""ProcessPool: workers in processes of this machine, such as one for each GPU or core."""

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from ttt_bench.api.errors import UserError
from ttt_bench.api.executor import Chain, Chunk, ChunkResult, Worker, WorkerSpec, chains
from ttt_bench.engine.process_state import restored
from ttt_bench.toolkit.interrupt import check_interrupted
from ttt_bench.toolkit.parent import end_with_parent

# How often the pool looks whether the user has interrupted the command.
LOOK_SECONDS = 0.5
# How long a process that has nothing to do may take to leave.
LEAVE_SECONDS = 5
# How many workers a chunk may kill (by memory, mostly) before the run gives up.
ATTEMPTS = 3


class CommandOverError(Exception):
    """The end of a worker process, whose main process needs nothing more."""


class ProcessPool:
    """A pool of worker processes, kept over runs; a dead one is replaced and its chain goes on."""

    def __init__(self) -> None:
        # A fork would take over a GPU's state and another thread's locks.
        self._context = multiprocessing.get_context("spawn")
        # By slot.
        self._processes: dict[int, tuple[Connection, BaseProcess]] = {}

    def close(self) -> None:
        """End the processes, which have nothing to do."""
        self._end(LEAVE_SECONDS)

    def _end(self, seconds: int) -> None:
        """End every process, by force where it does not leave by itself within some seconds."""
        for connection, _ in self._processes.values():
            connection.close()
        for _, process in self._processes.values():
            process.join(seconds)
            process.kill()
            process.join()
        self._processes.clear()

    def run_chunks(
        self, spec: WorkerSpec, number: int, chunks: Sequence[Chunk]
    ) -> Iterator[tuple[Chunk, ChunkResult]]:
        """Yield the chunks with their records, as they are finished.

        Args:
            spec: what the workers are built from.
            number: the number of workers.
            chunks: what they compute.

        Raises:
            UserError: a worker raised one, or one chunk has killed several workers.
        """
        try:
            yield from self._run_chunks(spec, number, chunks)
        # The processes of a run that did not end may still compute.
        except BaseException:
            self._end(0)
            raise

    def _run_chunks(
        self, spec: WorkerSpec, number: int, chunks: Sequence[Chunk]
    ) -> Iterator[tuple[Chunk, ChunkResult]]:
        waiting, running = deque(chains(chunks)), dict[Connection, tuple[int, Chain]]()
        deaths: Counter[int] = Counter()
        for slot in range(number):
            self._begin(slot, spec)
        while waiting or running:
            for slot in range(number):
                connection = self._processes[slot][0]
                if waiting and connection not in running:
                    running[connection] = slot, waiting.popleft()
                    _send(connection, running[connection][1].next())
            check_interrupted()
            for connection in wait(list(running), LOOK_SECONDS):
                assert isinstance(connection, Connection)
                slot, chain = running[connection]
                chunk = chain.next()
                assert chunk is not None
                try:
                    result = _answer(connection)
                except EOFError:
                    del running[connection]
                    deaths[chunk.number] += 1
                    self._bury(slot, chunk, deaths[chunk.number])
                    self._begin(slot, spec)
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
        for slot in range(number):
            connection, process = self._processes[slot]
            _send(connection, None)
            # One that died after its last chunk has nothing more to say.
            try:
                _answer(connection)
            except EOFError:
                process.join()
                del self._processes[slot]

    def _begin(self, slot: int, spec: WorkerSpec) -> None:
        """Tell the process of a slot what its chunks are of; start it where there is none."""
        if slot not in self._processes or not self._processes[slot][1].is_alive():
            ours, theirs = self._context.Pipe()
            # No daemon: a worker has loader processes of its own.
            process = self._context.Process(target=_serve, args=(theirs,))
            process.start()
            # Held by the process alone, the far end tells when it dies.
            theirs.close()
            self._processes[slot] = ours, process
        _send(self._processes[slot][0], _on_own_device(spec, slot))

    def _bury(self, slot: int, chunk: Chunk, deaths: int) -> None:
        _, process = self._processes.pop(slot)
        process.join()
        if deaths == ATTEMPTS:
            raise UserError(
                f"{ATTEMPTS} workers died of chunk {chunk.number} (exit {process.exitcode}; "
                "-9 is mostly too little memory); finished chunks are kept: "
                "the same command with fewer --workers continues"
            )


def _on_own_device(spec: WorkerSpec, slot: int) -> WorkerSpec:
    """Give each worker a GPU of its own, where there are GPUs."""
    if spec.device != "cuda":
        return spec
    return spec.on_device(f"cuda:{slot % torch.cuda.device_count()}")


def _serve(connection: Connection) -> None:
    """Be a worker process: receive what runs are of, and chunks, and send records.

    A `WorkerSpec` begins a run, a `Chunk` is answered with its records, and None, which ends the
    run, with None where the backbone is as it was.
    """
    end_with_parent()
    # Ctrl-C reaches every process of a terminal; the main process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    left_over = None
    with suppress(CommandOverError):
        while True:
            left_over = _serve_run(connection, _receive(connection), left_over)


def _serve_run(connection: Connection, spec: WorkerSpec, left_over: Any) -> Any:
    """Compute chunks until the run ends, and return what the next run can use again.

    Raises:
        CommandOverError: the main process needs nothing more.
    """
    worker: Worker | None = None
    with ExitStack() as run:
        while True:
            chunk = _receive(connection)
            answer: ChunkResult | UserError | None = None
            try:
                if worker is None:
                    worker = spec.build(left_over)
                    run.enter_context(restored(spec.method))
                if chunk is None:
                    worker.verify_backbone()
                else:
                    answer = worker.run(chunk)
            except UserError as error:
                answer = error
            try:
                connection.send(answer)
            except ConnectionError as error:
                raise CommandOverError from error
            if chunk is None:
                return worker.left_over() if worker is not None and answer is None else None


def _receive(connection: Connection) -> Any:
    """Receive what the main process sends.

    Raises:
        CommandOverError: it is gone, or has ended the run.
    """
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        raise CommandOverError from error


def _send(connection: Connection, message: WorkerSpec | Chunk | None) -> None:
    """Send a process something; a dead one is noticed when its answer is read."""
    with suppress(ConnectionError):
        connection.send(message)


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
