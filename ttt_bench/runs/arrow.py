"""Records as Arrow tables: the form in which chunk files hold them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ttt_bench.api.records import Records

REQUIRED = ("sample_id", "image_digest", "label", "prediction", "confidence")
COLUMNS = [
    ("sample_id", pa.string()),
    ("image_digest", pa.string()),
    ("group", pa.string()),
    ("label", pa.int32()),
    ("prediction", pa.int32()),
    ("confidence", pa.float32()),
    ("unadapted_prediction", pa.int32()),
    ("step_predictions", pa.list_(pa.int32())),
]
# Columns of methods whose samples come in streams.
STREAM_COLUMNS = [("stream", pa.string()), ("position", pa.int32())]
LOGITS = "logits"
# Bytes of a logit, a little-endian float32.
WIDTH = 4


def to_table(records: Records, metadata: Mapping[str, str] | None = None) -> pa.Table:
    """Convert records to a table; the time goes into its metadata.

    The logits of a sample are one value of C float32 numbers, 4 C bytes: as a list of numbers they
    take ten times as long to read.

    Args:
        records: the records.
        metadata: more entries for the table's metadata.
    """
    missing = [None] * len(records)
    unadapted, steps = records.unadapted_prediction, records.step_predictions
    columns = {
        "sample_id": records.sample_id,
        "image_digest": records.image_digest,
        "group": records.group,
        "label": records.label,
        "prediction": records.prediction,
        "confidence": records.confidence,
        "unadapted_prediction": missing if unadapted is None else unadapted,
        "step_predictions": missing if steps is None else _lists(steps, pa.int32()),
        LOGITS: pa.nulls(len(records)) if records.logits is None else _rows(records.logits),
    }
    fields = [*COLUMNS, (LOGITS, columns[LOGITS].type)]
    if records.position is not None:
        columns |= {"stream": records.stream, "position": records.position}
        fields += STREAM_COLUMNS
    schema = pa.schema(fields)
    return pa.table(
        columns, schema.with_metadata({"seconds": repr(records.seconds), **(metadata or {})})
    )


def to_parquet(table: pa.Table) -> bytes:
    """Return the bytes of a parquet file with a table."""
    content = pa.BufferOutputStream()
    # Logits hardly repeat: dictionaries of them and compression would only cost time.
    pq.write_table(table, content, use_dictionary=False, compression="none", write_statistics=False)
    return content.getvalue().to_pybytes()


def from_table(table: pa.Table) -> Records:
    """Convert a table to records, whose arrays are read-only.

    Raises:
        ValueError: a required value is missing, or a column has another type.
        KeyError: the metadata or a column is missing.
    """
    arrays = {
        name: _one_array(column)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    in_streams = dict(STREAM_COLUMNS) if "position" in arrays else {}
    expected = {**dict(COLUMNS), **in_streams}
    wrong = next((name for name, type_ in expected.items() if arrays[name].type != type_), None)
    if wrong is not None:
        raise ValueError(f"its column {wrong} has another type")
    if any(arrays[name].null_count for name in (*REQUIRED, *in_streams)):
        raise ValueError("values are missing")
    steps, unadapted = arrays["step_predictions"], arrays["unadapted_prediction"]
    records = Records(
        sample_id=arrays["sample_id"].to_pylist(),
        image_digest=arrays["image_digest"].to_pylist(),
        group=_repeated(arrays["group"]),
        label=_values(arrays["label"]),
        prediction=_values(arrays["prediction"]),
        confidence=_values(arrays["confidence"]),
        unadapted_prediction=None if unadapted.null_count else _values(unadapted),
        step_predictions=None if steps.null_count else _matrix(steps),
        logits=None if arrays[LOGITS].null_count else _logits(arrays[LOGITS]),
        seconds=float(table.schema.metadata[b"seconds"]),
        stream=_repeated(arrays["stream"]) if in_streams else None,
        position=_values(arrays["position"]) if in_streams else None,
    )
    return records.read_only()


def opened_table(content: bytes, largest: int) -> pq.ParquetFile:
    """Open the bytes of a parquet file of records, whose declared size is bounded.

    The parser gets bytes, not a path: what it maps into memory cannot vanish under it.

    Args:
        content: the bytes.
        largest: bytes that its values may take, however well they are packed.

    Raises:
        pyarrow.ArrowException: the bytes are no parquet file.
        ValueError: it declares too many bytes.
    """
    file = pq.ParquetFile(pa.BufferReader(content))
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    values = max((column.num_values for column in columns), default=0)
    size = sum(column.total_uncompressed_size for column in columns)
    # Equal rows of logits may be packed into one; read, each takes its own bytes. The parquet
    # schema's own `length` aborts the process on some damaged files.
    widths = [
        field.type.byte_width
        for field in file.schema_arrow
        if pa.types.is_fixed_size_binary(field.type)
    ]
    rows = file.metadata.num_rows * max(widths, default=0)
    if max(WIDTH * values, size, rows) > largest:
        raise ValueError("the records are too large")
    return file


def joined(parts: Sequence[Records]) -> Records:
    """Join the records of chunks, one after another.

    Fields that some parts lack (steps, unadapted predictions, logits, streams) are left out.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    optional = {}
    for name in ("unadapted_prediction", "step_predictions", "logits", "position"):
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
        seconds=math.fsum(part.seconds for part in parts),
        stream=None
        if optional["position"] is None
        else [name for part in parts for name in part.stream or ()],
        **optional,
    ).read_only()


def _lists(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    # (N, K) -> N lists of K values
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind)
    offsets = pa.array(np.arange(0, values.size + 1, values.shape[1] or 1, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, flat)


def _rows(logits: np.ndarray) -> pa.Array:
    # (N, C) -> N values of 4 C bytes
    rows = np.ascontiguousarray(logits, "<f4")
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(WIDTH * rows.shape[1]), len(rows), [None, pa.py_buffer(rows)]
    )


def _logits(array: pa.Array) -> np.ndarray:
    """Return rows of logits without missing values as a matrix.

    Raises:
        ValueError: the column holds something else.
    """
    if not pa.types.is_fixed_size_binary(array.type) or array.type.byte_width % WIDTH:
        raise ValueError(f"its column {LOGITS} has another type")
    width = array.type.byte_width
    flat = np.frombuffer(
        array.buffers()[1], "<f4", len(array) * width // WIDTH, array.offset * width
    )
    # N rows of 4 C bytes -> (N, C)
    return flat.reshape(len(array), width // WIDTH)


def _repeated(array: pa.Array) -> list[str | None]:
    """Return the strings of a column in which few come again and again, each of them once."""
    once: dict[str | None, str | None] = {}
    return [once.setdefault(name, name) for name in array.to_pylist()]


def _values(array: pa.Array) -> np.ndarray:
    """Return the numbers of a column without missing values.

    The method `to_numpy` imports pandas, which takes longer than reading a run.
    """
    dtype = np.dtype(array.type.to_pandas_dtype())
    if len(array) == 0:
        return np.zeros(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)


def _matrix(array: pa.Array) -> np.ndarray:
    # Lists of one length, flattened: N*K values -> (N, K)
    return _values(array.flatten()).reshape(len(array), -1)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
