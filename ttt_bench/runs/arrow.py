"""Records as Arrow tables: the form in which chunk files hold them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ttt_bench.api.records import Records

REQUIRED = ("sample_id", "image_digest", "label", "prediction", "confidence")
SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("image_digest", pa.string()),
        ("group", pa.string()),
        ("label", pa.int32()),
        ("prediction", pa.int32()),
        ("confidence", pa.float32()),
        ("unadapted_prediction", pa.int32()),
        ("step_predictions", pa.list_(pa.int32())),
        ("logits", pa.list_(pa.float32())),
    ]
)


def to_table(records: Records, metadata: Mapping[str, str] | None = None) -> pa.Table:
    """Convert records to a table; the time goes into its metadata.

    Args:
        records: the records.
        metadata: more entries for the table's metadata.
    """
    missing = [None] * len(records)
    unadapted, steps, logits = (
        records.unadapted_prediction,
        records.step_predictions,
        records.logits,
    )
    columns = {
        "sample_id": records.sample_id,
        "image_digest": records.image_digest,
        "group": records.group,
        "label": records.label,
        "prediction": records.prediction,
        "confidence": records.confidence,
        "unadapted_prediction": missing if unadapted is None else unadapted,
        "step_predictions": missing if steps is None else _lists(steps, pa.int32()),
        "logits": missing if logits is None else _lists(logits, pa.float32()),
    }
    return pa.table(
        columns, SCHEMA.with_metadata({"seconds": repr(records.seconds), **(metadata or {})})
    )


def from_table(table: pa.Table) -> Records:
    """Convert a table to records, whose arrays are read-only.

    Raises:
        ValueError: a required value is missing.
        KeyError: the metadata or a column is missing.
    """
    if any(table[name].null_count for name in REQUIRED):
        raise ValueError("values are missing")
    metadata = table.schema.metadata or {}
    table = table.cast(SCHEMA.with_metadata(metadata)).combine_chunks()
    steps, unadapted, logits = (
        table[name] for name in ("step_predictions", "unadapted_prediction", "logits")
    )
    records = Records(
        sample_id=table["sample_id"].to_pylist(),
        image_digest=table["image_digest"].to_pylist(),
        group=table["group"].to_pylist(),
        label=_values(table["label"]),
        prediction=_values(table["prediction"]),
        confidence=_values(table["confidence"]),
        unadapted_prediction=None if unadapted.null_count else _values(unadapted),
        step_predictions=None if steps.null_count else _matrix(steps),
        logits=None if logits.null_count else _matrix(logits),
        seconds=float(metadata[b"seconds"]),
    )
    return records.read_only()


def read_table(content: bytes) -> pa.Table:
    """Read a table from the bytes of a parquet file.

    The parser gets bytes, not a path: what it maps into memory cannot vanish under it.

    Raises:
        pyarrow.ArrowException: the bytes are no parquet file.
    """
    return pq.ParquetFile(pa.BufferReader(content)).read()


def joined(parts: Sequence[Records]) -> Records:
    """Join the records of chunks, one after another.

    Fields that some parts lack (steps, unadapted predictions, logits) are left out.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    optional = {}
    for name in ("unadapted_prediction", "step_predictions", "logits"):
        values = [getattr(part, name) for part in parts]
        optional[name] = None if any(v is None for v in values) else np.concatenate(values)
    return replace(
        first,
        sample_id=[name for part in parts for name in part.sample_id],
        image_digest=[one for part in parts for one in part.image_digest],
        group=[group for part in parts for group in part.group],
        label=np.concatenate([part.label for part in parts]),
        prediction=np.concatenate([part.prediction for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        seconds=sum(part.seconds for part in parts),
        **optional,
    ).read_only()


def _lists(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    # (N, K) -> N lists of K values
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind)
    offsets = pa.array(np.arange(0, values.size + 1, values.shape[1] or 1, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, flat)


def _values(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return the numbers of a column without missing values.

    The method `to_numpy` imports pandas, which takes longer than reading a run.
    """
    array = _one_array(column)
    dtype = np.dtype(array.type.to_pandas_dtype())
    if len(array) == 0:
        return np.zeros(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    # Lists of one length, flattened: N*K values -> (N, K)
    return _values(_one_array(column).flatten()).reshape(len(column), -1)


def _one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
