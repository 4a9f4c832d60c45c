"""Tables as pandas DataFrames."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ttt_bench.api.errors import UserError
from ttt_bench.api.records import Records
from ttt_bench.compare.pairs import Table
from ttt_bench.compare.rows import Row

if TYPE_CHECKING:
    import pandas as pd


def import_pandas() -> Any:
    """Return pandas.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError("this needs pandas: pip install 'ttt-bench[notebook]'") from error
    return pandas


def frame(lines: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """Return lines as a frame with a column for each of their names.

    Raises:
        UserError: pandas is not installed.
    """
    header = list(dict.fromkeys(key for line in lines for key in line))
    columns = {name: [line.get(name) for line in lines] for name in header}
    return import_pandas().DataFrame(columns, columns=header)


def records_frame(rows: Sequence[tuple[Table, Row]]) -> "pd.DataFrame":
    """Return the records of all runs of some rows, with a line for each sample of a run.

    Args:
        rows: the rows, each with its table.

    Raises:
        UserError: pandas is not installed.
    """
    pandas = import_pandas()
    parts = [
        {"run": row.label, "dataset": run.summary["dataset"], "seed": run.card.protocol["seed"],
         **_columns(run.records, run.card.protocol["class_names"])}
        for _, row in rows
        for run in row.runs
    ]  # fmt: skip
    lengths = [len(part["id"]) for part in parts]
    columns: dict[str, Any] = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        if all(value is None for value in values):
            continue
        columns[name] = _joined(pandas, values, lengths)
    return pandas.DataFrame(columns)


def _columns(records: Records, classes: Sequence[str]) -> dict[str, Any]:
    """Return the columns of one run; one that it does not have is None."""
    names = np.array([*classes, None], dtype=object)[:-1]  # (C,)
    steps = records.step_predictions
    return {
        "id": list(records.sample_id),
        "group": list(records.group),
        "label": records.label,
        "class_name": names[records.label],
        "prediction": records.prediction,
        "predicted_name": names[records.prediction],
        "confidence": records.confidence,
        "correct": records.correct,
        "unadapted": records.unadapted_prediction,
        "steps": None if steps is None else steps.tolist(),
        "stream": None if records.stream is None else list(records.stream),
        "position": records.position,
    }


def _joined(pandas: Any, values: Sequence[Any], lengths: Sequence[int]) -> Any:
    """Return a column of all runs, whose value is missing for runs that do not have it."""
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    if arrays and arrays[0].dtype.kind == "i":
        missing = np.repeat([value is None for value in values], lengths)
        filled = [
            np.zeros(length, np.int64) if value is None else value.astype(np.int64)
            for value, length in zip(values, lengths, strict=True)
        ]
        joined = np.concatenate(filled)
        return pandas.arrays.IntegerArray(joined, missing) if missing.any() else joined
    if len(arrays) == len(values):
        return np.concatenate(arrays)
    return [
        one
        for value, length in zip(values, lengths, strict=True)
        for one in (value if isinstance(value, list) else [value] * length)
    ]
