"""Writing exported runs: finished runs packed into one zip file."""

import json
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.records import Records
from ttt_bench.runs import export_zip
from ttt_bench.runs.archive import SEAL, RunFiles
from ttt_bench.runs.arrow import opened_table, to_table
from ttt_bench.runs.checksum import chunk_checksum, sealed
from ttt_bench.runs.export_zip import MOST_RUNS, RECORDS_FILE, REVISITED_FILE, require_export
from ttt_bench.runs.folder import COST_FILE, MANIFEST_FILE, SUMMARY_FILE
from ttt_bench.runs.parts import Part, regrouped, without_logits
from ttt_bench.toolkit.atomic import atomic_write

# Samples of a part of the records.
PART_SAMPLES = 8192
# Columns whose values come again and again.
REPEATED = (
    "group", "stream", "label", "prediction", "unadapted_prediction",
    "step_predictions.list.element",
)  # fmt: skip
# The date of every file in an export, so that the same runs give the same bytes.
DATE = (1980, 1, 1, 0, 0, 0)


def write_export(
    file: Path, runs: Sequence[tuple[RunFiles, Mapping[str, Any]]], logits: bool
) -> None:
    """Write finished runs into one file, which appears whole or not at all.

    Args:
        file: the file to write or replace.
        runs: the runs' files, each with its summary.
        logits: whether the records keep their logits.

    Raises:
        UserError: there are too many runs, a run has no logits where they are asked for, or the
            file cannot be written.
    """
    if len(runs) > MOST_RUNS:
        raise UserError(f"{len(runs)} runs are more than the {MOST_RUNS} of one file; export less")
    names: set[str] = set()
    try:
        with (
            atomic_write(file) as temporary,
            # The form of 64 bits is refused when it is read.
            zipfile.ZipFile(temporary, "w", allowZip64=False) as archive,
        ):
            for files, summary in runs:
                key = files.card().key
                numbered = (f"{key}-{number}" for number in range(2, MOST_RUNS + 2))
                name = next(one for one in (key, *numbered) if one not in names)
                names.add(name)
                for member, value in _json_files(files, summary).items():
                    archive.writestr(_entry(f"{name}/{member}"), value)
                card = files.card()
                again = files.revisited_parts(card)
                tables = {
                    RECORDS_FILE: files.parts(card),
                    **({REVISITED_FILE: again} if again else {}),
                }
                for member, parts in tables.items():
                    with tempfile.TemporaryFile() as packed:
                        _pack(files, parts, logits, packed)
                        packed.seek(0)
                        with archive.open(_entry(f"{name}/{member}"), "w") as opened:
                            shutil.copyfileobj(packed, opened)
            require_export(archive.infolist())
    except (ValueError, zipfile.LargeZipFile) as error:
        raise UserError(
            f"{file}: would be too large to be read again ({first_line(error)}); export less"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {file} ({error.strerror or error}); give another -o"
        ) from error


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _json_files(files: RunFiles, summary: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the content of each JSON file of a run in an export, by name."""
    key = files.card().key
    values = {
        MANIFEST_FILE: files.manifest(),
        COST_FILE: files.read_json(COST_FILE, key),
        SUMMARY_FILE: summary,
    }
    return {
        name: json.dumps(sealed(value, key), indent=1).encode() for name, value in values.items()
    }


def _pack(files: RunFiles, parts: Sequence[Part], logits: bool, packed: BinaryIO) -> None:
    """Write parts of a run's records as a small parquet file of sealed parts, a row group each.

    Raises:
        UserError: the run has no logits where they are asked for.
        ValueError: the records are too large to be read again.
    """
    key, size, seconds, checksums = files.card().key, 0, list[float](), list[str]()
    writer: pq.ParquetWriter | None = None

    def kept() -> Iterator[Records]:
        for read in parts:
            part = read()
            if logits and part.logits is None:
                raise UserError(
                    f"{files.path}: its records come without logits; leave --logits out"
                )
            seconds.append(part.seconds)
            yield replace(part if logits else without_logits(part), seconds=0.0)

    for number, part in enumerate(regrouped(kept(), PART_SAMPLES)):
        checksums.append(chunk_checksum(part, key, number))
        table = to_table(part)
        size += table.nbytes
        if size > export_zip.LARGEST_RECORDS:
            raise ValueError("the records are too large")
        writer = writer or _writer(packed, table.schema)
        writer.write_table(table, row_group_size=len(part))
    assert writer is not None
    seal = sealed({"seconds": math.fsum(seconds), "parts": checksums}, key)
    writer.add_key_value_metadata({SEAL.decode(): json.dumps(seal)})
    writer.close()
    packed.seek(0)
    opened_table(packed.read(), export_zip.LARGEST_RECORDS)


def _writer(packed: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    # Names and digests are all different; a dictionary of them would only add to the file.
    repeated: Any = [*REPEATED]
    return pq.ParquetWriter(
        packed,
        schema,
        compression="zstd",
        compression_level=15,
        use_dictionary=repeated,
        write_statistics=False,
    )
