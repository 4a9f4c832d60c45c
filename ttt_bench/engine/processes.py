"""Workers in processes of this machine: one for each GPU, or as many as there are cores."""

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from ttt_bench.engine.plan import Chunk
from ttt_bench.engine.worker import Job, Worker
from ttt_bench.errors import UserError
from ttt_bench.records import Records

# How often a chunk may take its worker with it (memory, mostly) before the run gives up.
ATTEMPTS = 3


class Processes:
    """So many processes, each with a worker; one that dies is replaced, its chunk done again."""

    def __init__(self, job: Job, number: int) -> None:
        self.jobs = [_placed(job, place) for place in range(number)]
        # A fork would take over a GPU's state and another thread's locks.
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, tuple[int, BaseProcess]] = {}

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: Any) -> None:
        for connection, (_, process) in self._processes.items():
            connection.close()
            process.kill()
            process.join()

    def work_off(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Records]]:
        """The chunks with their records, as they are finished.

        Raises:
            UserError: a worker says so, or a chunk takes one worker after another with it.
        """
        waiting, doing = deque(chunks), dict[Connection, Chunk]()
        deaths: Counter[int] = Counter()
        for place in range(len(self.jobs)):
            self._start(place)
        while waiting or doing:
            for connection in self._processes:
                if waiting and connection not in doing:
                    doing[connection] = waiting.popleft()
                    _send(connection, doing[connection])
            for connection in wait(list(doing)):
                assert isinstance(connection, Connection)
                chunk = doing.pop(connection)
                try:
                    records = _answer(connection)
                except EOFError:
                    deaths[chunk.number] += 1
                    self._replace(connection, chunk, deaths[chunk.number])
                    waiting.appendleft(chunk)
                else:
                    yield chunk, records
        for connection in self._processes:
            _send(connection, None)
            # One that died after its last chunk has nothing more to say.
            with suppress(EOFError):
                _answer(connection)

    def _start(self, place: int) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self.jobs[place]), daemon=True)
        process.start()
        # Held by the process alone, the far end tells when it dies.
        theirs.close()
        self._processes[ours] = place, process

    def _replace(self, connection: Connection, chunk: Chunk, deaths: int) -> None:
        place, process = self._processes.pop(connection)
        process.join()
        if deaths == ATTEMPTS:
            raise UserError(
                f"{ATTEMPTS} workers died of chunk {chunk.number} (exit {process.exitcode}; "
                "-9 is mostly too little memory); finished chunks are kept: "
                "the same command with fewer --workers continues"
            )
        self._start(place)


def _placed(job: Job, place: int) -> Job:
    """The job on the GPU of a worker, where there are GPUs."""
    if job.device != "cuda":
        return job
    return replace(job, device=f"cuda:{place % torch.cuda.device_count()}")


def _serve(connection: Connection, job: Job) -> None:
    """What a process does: chunks in, records out, until nothing more comes."""
    # Ctrl-C reaches every process of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker: Worker | None = None
    while True:
        try:
            chunk = connection.recv()
        # The first process was killed; nobody wants the rest.
        except (EOFError, ConnectionError):
            return
        answer: Records | UserError | None = None
        try:
            worker = worker or Worker.build(job)
            if chunk is None:
                worker.leave()
            else:
                answer = worker.run(chunk)
        except UserError as error:
            answer = error
        try:
            connection.send(answer)
        except ConnectionError:
            return


def _send(connection: Connection, chunk: Chunk | None) -> None:
    """Ask for a chunk; that nobody is there to do it is seen when the answer is read."""
    with suppress(ConnectionError):
        connection.send(chunk)


def _answer(connection: Connection) -> Any:
    """What a process sent back.

    Raises:
        UserError: if that is what it sent.
        EOFError: it is gone.
    """
    try:
        answer = connection.recv()
    except ConnectionError as error:
        raise EOFError from error
    if isinstance(answer, UserError):
        raise answer
    return answer
