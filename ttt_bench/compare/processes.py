"""Reading many small runs in several processes, since threads wait for Python's lock."""

import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import TypeVar

from ttt_bench.api.errors import UserError
from ttt_bench.runs import parts
from ttt_bench.runs.archive import RunFiles
from ttt_bench.runs.folder import RunFolder
from ttt_bench.toolkit.cores import usable_cores

# Fewer runs are read sooner than processes start.
MANY_RUNS = 8
# Samples of a run that another process reads; the records of larger ones cost more to send.
MOST_SAMPLES = 20_000

ResultT = TypeVar("ResultT")


def read_many(runs: Sequence[RunFiles], read: Callable[[RunFiles], ResultT]) -> Iterator[ResultT]:
    """Yield what `read` returns for each run, in order.

    Args:
        runs: the runs.
        read: a function of a module, whose result can be pickled.

    Raises:
        UserError: `read` has raised it.
    """
    processes = min(usable_cores(), 4)
    if processes == 1 or len(runs) < MANY_RUNS or not _may_fork():
        yield from map(read, runs)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, context, _begin_process) as pool:
        futures = [pool.submit(read, run) if _is_small(run) else None for run in runs]
        try:
            for run, future in zip(runs, futures, strict=True):
                yield read(run) if future is None else future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _may_fork() -> bool:
    """Say whether this process may be forked: it has one thread, and no library that has more."""
    alone = threading.active_count() == 1 and "torch" not in sys.modules
    return alone and "fork" in multiprocessing.get_all_start_methods()


def _is_small(run: RunFiles) -> bool:
    if not isinstance(run, RunFolder):
        return False
    # A run whose card is damaged is read in this process, which reports it.
    with suppress(UserError):
        return run.card().protocol["n"] <= MOST_SAMPLES
    return False


def _begin_process() -> None:
    # The processes share the cores.
    parts.THREADS = 1
