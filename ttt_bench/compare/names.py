"""What rows are called in tables, so that rows of one method are told apart."""

from collections.abc import Mapping
from typing import Any


def row_name(row: Mapping[str, Any]) -> str:
    """Return a row's method, with stream and batch size where its predictions depend on them.

    Args:
        row: the summary of a run.
    """
    stream = row.get("stream")
    if stream is None:
        return row["method"]
    correlation = "" if row["correlation"] is None else f", D={row['correlation']:g}"
    return f"{row['method']} ({stream}{correlation}, batch {row['batch_size']})"
