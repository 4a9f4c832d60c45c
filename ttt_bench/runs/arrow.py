"""Records as Arrow tables: the form in which chunk files hold them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ttt_bench.api.records import Records

REQUIRED = ("sample_id", "label", "prediction", "confidence", "logits")
SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("group", pa.string()),
        ("label", pa.int32()),
        ("prediction", pa.int32()),
        ("confidence", pa.float32()),
        ("unadapted_prediction", pa.int32()),
        ("step_predictions", pa.list_(pa.int32())),
        ("logits", pa.list_(pa.float32())),
    ]
)


def to_table(records: Records) -> pa.Table:
    """Convert records to a table; the time and the digest go into its metadata."""
    steps = None if records.step_predictions is None else records.step_predictions.tolist()
    unadapted = records.unadapted_prediction
    missing = [None] * len(records)
    columns = {
        "sample_id": records.sample_id,
        "group": records.group,
        "label": records.label,
        "prediction": records.prediction,
        "confidence": records.confidence,
        "unadapted_prediction": missing if unadapted is None else unadapted,
        "step_predictions": steps or missing,
        "logits": list(records.logits),
    }
    metadata = {"seconds": repr(records.seconds), "sha256": records.digest()}
    return pa.table(columns, SCHEMA.with_metadata(metadata))


def from_tables(tables: Sequence[pa.Table]) -> Records:
    """Convert the tables of chunks, one after another, to records."""
    seconds = sum(float((table.schema.metadata or {})[b"seconds"]) for table in tables)
    table = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    steps, unadapted = table["step_predictions"], table["unadapted_prediction"]
    return Records(
        sample_id=table["sample_id"].to_pylist(),
        group=table["group"].to_pylist(),
        label=table["label"].to_numpy(),
        prediction=table["prediction"].to_numpy(),
        confidence=table["confidence"].to_numpy(),
        unadapted_prediction=None if unadapted.null_count else unadapted.to_numpy(),
        step_predictions=None if steps.null_count else _matrix(steps),
        logits=_matrix(table["logits"]),
        seconds=seconds,
    )


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    # Lists of one length, flattened: N*T values -> (N, T)
    return column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)
