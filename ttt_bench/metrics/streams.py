"""Accuracy along the streams of online methods."""

import numpy as np

from ttt_bench.api.records import Records
from ttt_bench.metrics.accuracy import percent

# Of a stream, what counts as its beginning and its end.
SHARE = 10


def first_tenth(records: Records) -> float | None:
    """Return the top-1 on the first tenth of each stream; None for a method without streams."""
    if records.position is None:
        return None
    tenths = [rows[: tenth_of(len(rows))] for rows in rows_by_stream(records).values()]
    return percent(records.correct[np.concatenate(tenths)])


def last_tenth(records: Records) -> float | None:
    """Return the top-1 on the last tenth of each stream; None for a method without streams."""
    if records.position is None:
        return None
    tenths = [rows[-tenth_of(len(rows)) :] for rows in rows_by_stream(records).values()]
    return percent(records.correct[np.concatenate(tenths)])


def revisited_top1(records: Records) -> float | None:
    """Return the top-1 on a group that came again at the end of a stream; None without one."""
    return None if records.revisited is None else percent(records.revisited.correct)


def revisited_change(records: Records) -> float | None:
    """Return what the top-1 on a group has changed by when it came again, percentage points."""
    again = records.revisited
    if again is None:
        return None
    first = records.in_order_of(again.sample_id)
    return percent(again.correct) - percent(first.correct)


def collapsed_streams(records: Records) -> list[str]:
    """Return the streams at whose end a method predicts one or two classes, whatever comes.

    A stream counts if the labels of its last tenth are of more than twice as many classes.
    """
    collapsed: list[str] = []
    if records.position is not None:
        for name, rows in rows_by_stream(records).items():
            end = rows[-tenth_of(len(rows)) :]
            predicted = len(np.unique(records.prediction[end]))
            if predicted <= 2 and len(np.unique(records.label[end])) > 2 * predicted:
                collapsed.append(str(name))
    return collapsed


def rows_by_stream(records: Records) -> dict[str | None, np.ndarray]:
    """Return the rows of each stream, in the order of the samples in it."""
    assert records.stream is not None
    assert records.position is not None
    rows: dict[str | None, list[int]] = {}
    for row in np.argsort(records.position, kind="stable").tolist():
        rows.setdefault(records.stream[row], []).append(row)
    return {name: np.array(some) for name, some in rows.items()}


def tenth_of(samples: int) -> int:
    """Return how many samples are a tenth of a stream, at least one."""
    return max(1, samples // SHARE)
