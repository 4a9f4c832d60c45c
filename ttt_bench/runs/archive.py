"""Exported runs: finished runs in one zip file, which is read as their folders are."""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.records import Records
from ttt_bench.runs import export_zip
from ttt_bench.runs.arrow import from_table, to_table
from ttt_bench.runs.card import Card, read_card
from ttt_bench.runs.checksum import chunk_checksum, sealed, unsealed
from ttt_bench.runs.export_zip import (
    ADVICE,
    MOST_RUNS,
    RECORDS_FILE,
    opened_export,
    read_member,
    require_export,
)
from ttt_bench.runs.folder import COST_FILE, MANIFEST_FILE, SUMMARY_FILE, RunFolder
from ttt_bench.toolkit.atomic import atomic_write

SUFFIX = ".zip"
# Between the file and the run in it, such as `results.zip!8f2c01d3aa`.
SEPARATOR = "!"
# The seal of the records stands for all of them, in place of a chunk's number.
ALL_CHUNKS = -1

# Columns whose values come again and again.
REPEATED = ("group", "label", "prediction", "unadapted_prediction", "step_predictions.list.element")
# The date of every file in an export, so that the same runs give the same bytes.
DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ExportedRun:
    """One run of an exported file, read as a `RunFolder` is.

    Attributes:
        file: the zip file.
        name: the run's key, followed by a number where several runs of one card are in the file.
    """

    file: Path
    name: str

    @property
    def path(self) -> Path:
        """The file and the run in it, such as `results.zip!8f2c01d3aa`."""
        return self.file.with_name(f"{self.file.name}{SEPARATOR}{self.name}")

    def manifest(self) -> dict[str, Any]:
        """Read the manifest.

        Raises:
            UserError: it is damaged or was edited.
        """
        value = self._load(MANIFEST_FILE)
        # The card's own digests name the field that was edited.
        card = read_card(value, f"{self.path}/{MANIFEST_FILE}")
        if self.name.partition("-")[0] != card.key:
            raise UserError(f"{self.path}: holds the run {card.key}; {ADVICE}")
        return self._unseal(MANIFEST_FILE, value, card.key)

    def card(self) -> Card:
        """Read the protocol card, checked against its digests."""
        return read_card(self.manifest(), f"{self.path}/{MANIFEST_FILE}")

    def read_json(self, name: str, key: str) -> dict[str, Any]:
        """Read one of the JSON files of the run with this key.

        Raises:
            UserError: it is damaged, was edited, or belongs to another run.
        """
        return self._unseal(name, self._load(name), key)

    def read_records(self) -> Records:
        """Read every record, whose logits are None where the export left them out.

        Raises:
            UserError: they are damaged, were edited, or belong to another run.
        """
        card = self.card()
        content = self._content(RECORDS_FILE)
        try:
            table = _bounded(content, card.protocol["n"]).read()
            records, metadata = from_table(table), table.schema.metadata
            if metadata[b"run"].decode() != card.key:
                raise ValueError("they belong to another run")
            checksum = chunk_checksum(records, card.key, ALL_CHUNKS)
            if metadata[b"sha256"].decode() != checksum:
                raise ValueError("their values do not fit their checksum")
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.path}/{RECORDS_FILE} was edited or damaged ({first_line(error)}); {ADVICE}"
            ) from error
        return records

    def _load(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self._content(name).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{self.path}/{name} is damaged ({first_line(error)}); {ADVICE}"
            ) from error
        if not isinstance(value, dict):
            raise UserError(f"{self.path}/{name} is damaged (not a JSON object); {ADVICE}")
        return value

    def _unseal(self, name: str, value: Mapping[str, Any], key: str) -> dict[str, Any]:
        try:
            return unsealed(value, key)
        except ValueError as error:
            raise UserError(
                f"{self.path}/{name} was edited or damaged ({error}); {ADVICE}"
            ) from error

    def _content(self, name: str) -> bytes:
        with opened_export(self.file) as archive:
            try:
                return read_member(archive, f"{self.name}/{name}")
            except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, zlib.error) as error:
                raise UserError(
                    f"{self.path}/{name} is damaged ({first_line(error)}); {ADVICE}"
                ) from error


RunFiles = RunFolder | ExportedRun


def is_export(path: Path) -> bool:
    """Say whether a path names an exported file, or one run in such a file."""
    name = path.name.partition(f"{SUFFIX}{SEPARATOR}")[0]
    return path.name.endswith(SUFFIX) or (
        name != path.name and path.with_name(f"{name}{SUFFIX}").exists()
    )


def exported_runs(path: Path) -> list[ExportedRun]:
    """Return the runs of an exported file, or the one that `FILE.zip!KEY` names.

    Args:
        path: the path for which `is_export` holds.

    Raises:
        UserError: there is no such file or run, or the file is no export.
    """
    stem, separator, wanted = path.name.partition(f"{SUFFIX}{SEPARATOR}")
    file = path.with_name(f"{stem}{SUFFIX}") if separator else path
    with opened_export(file) as archive:
        names = dict.fromkeys(name.partition("/")[0] for name in archive.namelist())
    if separator and wanted not in names:
        raise UserError(f"{file}: holds no run {wanted!r}; it holds {', '.join(names)}")
    return [ExportedRun(file, name) for name in names if not separator or name == wanted]


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
                for member, content in _contents(files, summary, logits).items():
                    entry = zipfile.ZipInfo(f"{name}/{member}", DATE)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, content)
            require_export(archive.infolist())
    except (ValueError, zipfile.LargeZipFile) as error:
        raise UserError(
            f"{file}: would be too large to be read again ({first_line(error)}); export less"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write {file} ({error.strerror or error}); give another -o"
        ) from error


def _contents(files: RunFiles, summary: Mapping[str, Any], logits: bool) -> dict[str, bytes]:
    """Return the content of each file of a run in an export, by name."""
    key = files.card().key
    records = files.read_records()
    if logits and records.logits is None:
        raise UserError(f"{files.path}: its records come without logits; leave --logits out")
    if not logits:
        records = replace(records, logits=None)
    values = {
        MANIFEST_FILE: files.manifest(),
        COST_FILE: files.read_json(COST_FILE, key),
        SUMMARY_FILE: summary,
    }
    contents = {
        name: json.dumps(sealed(value, key), indent=1).encode() for name, value in values.items()
    }
    packed = _packed(records, key)
    _bounded(packed, len(records))
    return {**contents, RECORDS_FILE: packed}


def _packed(records: Records, key: str) -> bytes:
    """Return records as the bytes of a small parquet file, sealed as a chunk is."""
    metadata = {"run": key, "sha256": chunk_checksum(records, key, ALL_CHUNKS)}
    packed = BytesIO()
    # Names and digests are all different; a dictionary of them would only add to the file.
    repeated: Any = [*REPEATED]
    pq.write_table(
        to_table(records, metadata),
        packed,
        compression="zstd",
        compression_level=15,
        use_dictionary=repeated,
        write_statistics=False,
    )
    return packed.getvalue()


def _bounded(content: bytes, samples: int) -> pq.ParquetFile:
    """Return a parquet file whose declared size is bounded, before its values are read.

    Raises:
        ValueError: it declares another number of rows, or too many bytes.
    """
    file = pq.ParquetFile(pa.BufferReader(content))
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    if file.metadata.num_rows != samples:
        raise ValueError(f"{file.metadata.num_rows} rows for {samples} samples")
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    values = max((column.num_values for column in columns), default=0)
    size = sum(column.total_uncompressed_size for column in columns)
    # 4 bytes for a value, however well it is packed.
    if max(4 * values, size) > export_zip.LARGEST_RECORDS:
        raise ValueError("the records are too large")
    return file
