"""LoaderPool: processes that make the parts of samples ahead, in the order of their use."""

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch

from ttt_bench.api.errors import UserError
from ttt_bench.preparation.arena import Arena
from ttt_bench.preparation.parts import Made, Part, Preparation
from ttt_bench.toolkit.interrupt import check_interrupted
from ttt_bench.toolkit.parent import end_with_parent

# Bytes that all loaders together may be ahead of the method.
AHEAD_BYTES = 512 * 2**20
# Parts that one loader is asked for at once: what goes to it must fit into its pipe, since it may
# be waiting to answer.
AHEAD_PARTS = 128
# Parts that all loaders together may be ahead; most of them are small.
MOST_PARTS = 1024
# How often the main process looks whether the user has interrupted the command.
LOOK_SECONDS = 0.5
# How many loaders a part may end (by memory, mostly) before it is left out.
ATTEMPTS = 3


@dataclass(eq=False)
class Job:
    """One part of one sample that is wanted.

    Attributes:
        batch: the number of the batch that the sample is in.
        index: the dataset's entry.
        part: what is made of it, as a place in `Preparation.parts`.
        size: bytes reserved for it.
        start: where they are in the arena.
        made: the result, None before it has come. Its arrays lie in the arena.
        problem: why the image cannot be read, "" where it can.
        dropped: whether nobody wants it any longer.
    """

    batch: int
    index: int
    part: int
    size: int
    start: int = 0
    made: Made | None = None
    problem: str = ""
    dropped: bool = False


@dataclass(eq=False)
class Loader:
    """A loader process.

    Attributes:
        connection: this end of its pipe.
        process: the process.
        jobs: what it was asked for and has not answered, in order.
    """

    connection: Connection
    process: BaseProcess
    jobs: deque[Job] = field(default_factory=deque[Job])


class LoaderPool:
    """Loader processes. One that dies is replaced, and its jobs are done again."""

    def __init__(self, preparation: Preparation, number: int, ahead: int = AHEAD_BYTES) -> None:
        """Start the processes.

        Args:
            preparation: makes the parts. The processes inherit it, nothing is pickled.
            number: how many processes.
            ahead: bytes that may lie ready.

        Raises:
            UserError: processes cannot inherit it on this system.
        """
        require_fork()
        self._context = multiprocessing.get_context("fork")
        self.preparation = preparation
        self.parts = preparation.parts()
        self.sizes = [preparation.bytes(part) for part in self.parts]
        self.arena = Arena(ahead, preparation.pixel_maker.backbone.device.type == "cuda")
        self._most = AHEAD_PARTS if preparation.inputs.images else MOST_PARTS
        self._batch = -1
        self._coming: Iterator[Job] = iter(())
        self._next: Job | None = None
        # What was asked for and not taken, by entry and part.
        self._asked: dict[tuple[int, int], Job] = {}
        # What the main process has made itself before a loader was asked.
        self._made_here: set[tuple[int, int]] = set()
        self._loader_of: dict[int, Loader] = {}
        self._deaths: Counter[tuple[int, int]] = Counter()
        # Jobs whose memory a GPU may still be reading, with the event after which it does not.
        self._in_use: deque[tuple[Any, Job]] = deque()
        self.loaders: list[Loader] = []
        for _ in range(number):
            self.loaders.append(self._start())

    def announce(self, batches: Iterable[Sequence[int]]) -> None:
        """Begin with the parts of these batches, in order; forget what was announced before."""
        self._drop(list(self._asked.values()))
        self._made_here.clear()
        self._batch, self._next = -1, None
        self._coming = (
            Job(number, index, part, size)
            for number, batch in enumerate(batches)
            for part, size in enumerate(self.sizes)
            for index in batch
        )
        self._hand_out()

    def begin_batch(self) -> None:
        """Go on to the next batch; what was not taken of the one before is dropped."""
        self._batch += 1
        self._drop([job for job in self._asked.values() if job.batch < self._batch])
        self._made_here.clear()
        self._hand_out()

    @contextmanager
    def taken(self, index: int, part: Part) -> Iterator[Made | None]:
        """Return a part that was made ahead, or None: then the caller makes it.

        The arrays are valid inside the `with` block, and for copies to a GPU that began in it.

        Raises:
            UserError: the image cannot be read, or several loaders died of it.
        """
        if part not in self.parts:
            yield None
            return
        name = index, self.parts.index(part)
        self._receive(0.0)
        job = self._asked.pop(name, None)
        if job is None:
            self._made_here.add(name)
            yield None
            return
        while job.made is None:
            check_interrupted()
            self._receive(LOOK_SECONDS)
        try:
            if job.problem:
                raise UserError(job.problem)
            yield job.made
        finally:
            self._release(job)
            self._hand_out()

    def close(self) -> None:
        """End the processes."""
        for loader in self.loaders:
            loader.connection.close()
            loader.process.kill()
            loader.process.join()
        self.loaders = []

    def _start(self) -> Loader:
        ours, theirs = self._context.Pipe()
        # A process that keeps the pipes of others open would hide their end.
        inherited = [ours, *(loader.connection for loader in self.loaders)]
        process = self._context.Process(
            target=_serve, args=(theirs, self.preparation, self.arena, inherited), daemon=True
        )
        process.start()
        theirs.close()
        return Loader(ours, process)

    def _hand_out(self) -> None:
        """Ask loaders for what comes next, as far as there is memory for it."""
        self._free_what_was_copied()
        while self.loaders and len(self._asked) < self._most:
            job = self._next = self._next or next(self._coming, None)
            if job is None:
                return
            if job.batch < self._batch or (job.index, job.part) in self._made_here:
                self._next = None
                continue
            loader = self._loader_of.get(job.index)
            loader = loader or min(self.loaders, key=lambda one: len(one.jobs))
            if len(loader.jobs) >= AHEAD_PARTS:
                return
            start = self.arena.reserve(job.size) if job.size else 0
            if start is None:
                return
            self._next, job.start = None, start
            # One loader makes all parts of a sample, and decodes its image once.
            self._loader_of[job.index] = loader
            self._asked[job.index, job.part] = job
            loader.jobs.append(job)
            _send(loader, job)

    def _receive(self, seconds: float) -> None:
        """Take in what loaders have made, waiting for so long where there is nothing."""
        by_connection: dict[Any, Loader] = {one.connection: one for one in self.loaders if one.jobs}
        for connection in wait(list(by_connection), seconds):
            loader = by_connection[connection]
            try:
                while loader.jobs and loader.connection.poll():
                    self._take_in(loader, loader.connection.recv())
            except (EOFError, OSError):
                self._replace(loader)

    def _take_in(self, loader: Loader, answer: tuple[Made, dict[str, Any], str]) -> None:
        job = loader.jobs.popleft()
        made, layout, job.problem = answer
        arrays = {
            name: self.arena.array(start, shape, dtype)
            for name, (start, shape, dtype) in layout.items()
        }
        job.made = replace(made, arrays={**arrays, **made.arrays})
        if job.dropped:
            self._release(job)

    def _replace(self, loader: Loader) -> None:
        """Start another loader in place of a dead one, and ask it for the same.

        A part that has ended several loaders is left out; whoever takes it is told.
        """
        loader.process.join()
        loader.connection.close()
        first = loader.jobs[0]
        self._deaths[first.index, first.part] += 1
        if self._deaths[first.index, first.part] == ATTEMPTS:
            key = self.preparation.dataset.entries[first.index].key
            problem = (
                f"{ATTEMPTS} loaders died of image {key} (exit {loader.process.exitcode}; -9 is "
                "mostly too little memory); finished chunks are kept: the same command with fewer "
                "--loaders continues"
            )
            self._take_in(loader, (Made(), {}, problem))
        self.loaders.remove(loader)
        new = self._start()
        new.jobs = loader.jobs
        self.loaders.append(new)
        self._loader_of = {
            index: new if one is loader else one for index, one in self._loader_of.items()
        }
        for job in new.jobs:
            _send(new, job)

    def _drop(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            del self._asked[job.index, job.part]
            self._loader_of.pop(job.index, None)
            job.dropped = True
            if job.made is not None:
                self._release(job)

    def _release(self, job: Job) -> None:
        """Give the memory of a job back, once no copy from it is under way."""
        if not job.size:
            return
        if torch.cuda.is_initialized():
            event = torch.cuda.Event()
            event.record()
            self._in_use.append((event, job))
        else:
            self.arena.release(job.start, job.size)

    def _free_what_was_copied(self) -> None:
        while self._in_use and self._in_use[0][0].query():
            _, job = self._in_use.popleft()
            self.arena.release(job.start, job.size)


def require_fork() -> None:
    """Refuse a system whose processes cannot inherit.

    Raises:
        UserError: they cannot.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise UserError("--loaders needs processes that fork, which this system lacks")


def _send(loader: Loader, job: Job) -> None:
    """Ask for a job; a dead loader is noticed when its answer is read."""
    with suppress(ConnectionError):
        loader.connection.send((job.index, job.part, job.start, job.size))


def _serve(
    connection: Connection, preparation: Preparation, arena: Arena, inherited: list[Connection]
) -> None:
    """Be a loader process: receive jobs and send what was made until nothing more comes."""
    for other in inherited:
        other.close()
    end_with_parent()
    # Ctrl-C reaches every process of a terminal; the main process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parts = preparation.parts()
    while True:
        try:
            index, part, start, size = connection.recv()
            connection.send(_make(preparation, arena, index, parts[part], start, size))
        # The main process is gone; nobody needs the rest.
        except (EOFError, ConnectionError):
            return


def _make(
    preparation: Preparation, arena: Arena, index: int, part: Part, start: int, size: int
) -> tuple[Made, dict[str, Any], str]:
    """Make a part, its large arrays in the arena.

    Returns:
        The part without these arrays; where each of them lies (start, shape, type); and why the
        image cannot be read, "" where it can.
    """
    layout: dict[int, tuple[int, tuple[int, ...], str]] = {}
    position = start

    def allocate(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
        nonlocal position
        array = arena.array(position, shape, dtype)
        # A view set may draw more than it has said.
        if position + array.nbytes > start + size:
            return np.empty(shape, dtype)
        layout[id(array)] = position, shape, array.dtype.str
        position += array.nbytes
        return array

    try:
        made = preparation.make(index, part, allocate)
    except UserError as error:
        return Made(), {}, str(error)
    # A fault of a plugin's code comes out in the main process, which makes the part itself then.
    except Exception:
        return Made(), {}, ""
    inside = {name: layout[id(a)] for name, a in made.arrays.items() if id(a) in layout}
    outside = {name: a for name, a in made.arrays.items() if name not in inside}
    return replace(made, arrays=outside), inside, ""
