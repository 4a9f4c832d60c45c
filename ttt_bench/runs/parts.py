"""Records in parts: a run's chunks, read one at a time, so that logits never fill the memory."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

import numpy as np

from ttt_bench.api.records import Records
from ttt_bench.runs.arrow import joined
from ttt_bench.toolkit.cores import usable_cores

# Reads and checks one part of the records.
Part = Callable[[], Records]
Result = TypeVar("Result")

# Parsing, checksums and metrics mostly run outside of Python's lock. Each thread holds one part.
THREADS = min(usable_cores(), 4)
# The parts that a thread reads before it takes others.
MOST_IN_A_ROW = 32


def over_parts(
    function: Callable[[Iterator[Records]], Result], parts: Sequence[Part]
) -> list[Result]:
    """Return what a function makes of some parts after the others, for all of them, in order.

    Args:
        function: gets an iterator that reads the parts one at a time. It is called in several
            threads, each time for other parts.
        parts: the parts.

    Raises:
        UserError: a part is missing or damaged.
    """
    step = max(1, min(len(parts) // (4 * THREADS), MOST_IN_A_ROW))
    some = [parts[start : start + step] for start in range(0, len(parts), step)]
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(lambda those: function(part() for part in those), some))


def read_without_logits(parts: Sequence[Part]) -> list[Records]:
    """Read every part, and return them without their logits.

    Raises:
        UserError: a part is missing or damaged.
    """
    return [
        part
        for some in over_parts(lambda some: [*map(without_logits, some)], parts)
        for part in some
    ]


def without_logits(records: Records) -> Records:
    """Return records whose logits are not in memory."""
    return replace(records, logits=None)


def all_logits(parts: Sequence[Part], samples: int, classes: int) -> np.ndarray:
    """Read the logits of all parts, `[N, C]`.

    Args:
        parts: the parts, each with logits.
        samples: N.
        classes: C.
    """
    logits = np.empty((samples, classes), np.float32)
    start = 0
    for part in parts:
        read = part().required_logits()
        logits[start : start + len(read)] = read
        start += len(read)
    logits.setflags(write=False)
    return logits


def chosen_rows(parts: Sequence[Part], lengths: Sequence[int], rows: Sequence[int]) -> Records:
    """Read a few records with their logits, from the parts that hold them.

    Args:
        parts: the parts.
        lengths: the number of records of each part.
        rows: the rows, in ascending order, counted over all parts.
    """
    wanted = np.array(rows, dtype=int)
    ends = list(accumulate(lengths))
    chosen: list[Records] = []
    for part, length, end in zip(parts, lengths, ends, strict=True):
        inside = wanted[(wanted >= end - length) & (wanted < end)] - (end - length)
        if len(inside):
            chosen.append(part().rows(inside.tolist()))
    return joined(chosen)


def regrouped(parts: Iterator[Records], samples: int) -> Iterator[Records]:
    """Yield the same records in pieces of at least so many samples, the last one aside."""
    waiting: list[Records] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= samples:
            yield joined(waiting)
            waiting = []
    if waiting:
        yield joined(waiting)
