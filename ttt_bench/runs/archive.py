"""Exported runs: finished runs in one zip file, which is read as their folders are."""

import json
import math
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.records import Records
from ttt_bench.runs import export_zip
from ttt_bench.runs.arrow import from_table, joined, opened_table, to_table
from ttt_bench.runs.card import Card, card_of, read_card
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
from ttt_bench.runs.parts import Part, regrouped, without_logits
from ttt_bench.toolkit.atomic import atomic_write

SUFFIX = ".zip"
# Between the file and the run in it, such as `results.zip!8f2c01d3aa`.
SEPARATOR = "!"
# The field of the records' file with the checksums of its parts, and the samples of a part.
SEAL = b"seal"
PART_SAMPLES = 8192

# Columns whose values come again and again.
REPEATED = (
    "group", "stream", "label", "prediction", "unadapted_prediction",
    "step_predictions.list.element",
)  # fmt: skip
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

    @property
    def _key(self) -> str:
        return self.name.partition("-")[0]

    def manifest(self) -> dict[str, Any]:
        """Read the manifest.

        Raises:
            UserError: it is damaged or was edited.
        """
        value = self._load(MANIFEST_FILE)
        # The card's own digests name the field that was edited.
        card = read_card(value, f"{self.path}/{MANIFEST_FILE}")
        if self._key != card.key:
            raise UserError(f"{self.path}: holds the run {card.key}; {ADVICE}")
        return self._unseal(MANIFEST_FILE, value, card.key)

    def card(self) -> Card:
        """Read the protocol card, checked against its digests."""
        return card_of(self.manifest())

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
        return joined([part() for part in self.parts(self.card())])

    def parts(self, card: Card) -> list[Part]:
        """Return a function for each part of the records, in order, which reads the part.

        Args:
            card: the run's card.

        Raises:
            UserError: they are damaged, were edited, or belong to another run.
        """
        content = self._content(RECORDS_FILE)
        with self._records_refused():
            file = opened_table(content, export_zip.LARGEST_RECORDS)
            samples, rows = card.protocol["n"], file.metadata.num_rows
            if rows != samples:
                raise ValueError(f"{rows} rows for {samples} samples")
            seal = (file.metadata.metadata or {}).get(SEAL)
            if seal is None:
                raise ValueError("they carry no checksum")
            bound = unsealed(json.loads(seal), card.key)
            seconds, checksums = float(bound["seconds"]), list(bound["parts"])
            if len(checksums) != file.metadata.num_row_groups:
                raise ValueError("parts of them are missing")
        return [
            # The time is known of all parts together.
            partial(self._read_part, content, file.metadata, number, checksum,
                    0.0 if number else seconds)
            for number, checksum in enumerate(checksums)
        ]  # fmt: skip

    def _read_part(
        self,
        content: bytes,
        metadata: pq.FileMetaData,
        number: int,
        checksum: str,
        seconds: float,
    ) -> Records:
        with self._records_refused():
            # Several threads read at once, each with a parser of its own.
            file = pq.ParquetFile(pa.BufferReader(content), metadata=metadata)
            records = from_table(file.read_row_group(number, use_threads=False))
            if checksum != chunk_checksum(records, self._key, number):
                raise ValueError("their values do not fit their checksum")
        return replace(records, seconds=seconds)

    @contextmanager
    def _records_refused(self) -> Iterator[None]:
        """Say of records that cannot be read, or are not what was written, that they are damaged.

        Raises:
            UserError: they cannot be read.
        """
        try:
            yield
        except (
            pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, RecursionError
        ) as error:  # fmt: skip
            raise UserError(
                f"{self.path}/{RECORDS_FILE} was edited or damaged ({first_line(error)}); {ADVICE}"
            ) from error

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
                for member, value in _json_files(files, summary).items():
                    archive.writestr(_entry(f"{name}/{member}"), value)
                with tempfile.TemporaryFile() as packed:
                    _pack(files, logits, packed)
                    packed.seek(0)
                    with archive.open(_entry(f"{name}/{RECORDS_FILE}"), "w") as member:
                        shutil.copyfileobj(packed, member)
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


def _pack(files: RunFiles, logits: bool, packed: BinaryIO) -> None:
    """Write a run's records as a small parquet file of sealed parts, a row group each.

    Raises:
        UserError: the run has no logits where they are asked for.
        ValueError: the records are too large to be read again.
    """
    card = files.card()
    key, size, seconds, checksums = card.key, 0, list[float](), list[str]()
    writer: pq.ParquetWriter | None = None

    def kept() -> Iterator[Records]:
        for read in files.parts(card):
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
