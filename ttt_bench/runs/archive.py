"""Exported runs: finished runs in one zip file, which is read as their folders are."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.records import Records
from ttt_bench.runs import export_zip
from ttt_bench.runs.arrow import from_table, joined, opened_table
from ttt_bench.runs.card import Card, card_of, read_card, revisited_chunks
from ttt_bench.runs.checksum import chunk_checksum, unsealed
from ttt_bench.runs.export_zip import (
    ADVICE,
    RECORDS_FILE,
    REVISITED_FILE,
    opened_export,
    read_member,
)
from ttt_bench.runs.folder import MANIFEST_FILE, RunFolder
from ttt_bench.runs.parts import Part

SUFFIX = ".zip"
# Between the file and the run in it, such as `results.zip!8f2c01d3aa`.
SEPARATOR = "!"
# The field of the records' file with the checksums of its parts.
SEAL = b"seal"


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
        return self._parts_in(RECORDS_FILE, card, card.protocol["n"])

    def revisited_parts(self, card: Card) -> list[Part]:
        """Return functions that read what came again at the end of a stream, often none.

        Args:
            card: the run's card.

        Raises:
            UserError: they are damaged, were edited, or belong to another run.
        """
        if not revisited_chunks(card):
            return []
        return self._parts_in(REVISITED_FILE, card, card.method["stream"].get("revisited"))

    def _parts_in(self, name: str, card: Card, samples: int) -> list[Part]:
        content = self._content(name)
        with self._records_refused(name):
            file = opened_table(content, export_zip.LARGEST_RECORDS)
            rows = file.metadata.num_rows
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
            partial(self._read_part, name, content, file.metadata, number, checksum,
                    0.0 if number else seconds)
            for number, checksum in enumerate(checksums)
        ]  # fmt: skip

    def _read_part(
        self,
        name: str,
        content: bytes,
        metadata: pq.FileMetaData,
        number: int,
        checksum: str,
        seconds: float,
    ) -> Records:
        with self._records_refused(name):
            # Several threads read at once, each with a parser of its own.
            file = pq.ParquetFile(pa.BufferReader(content), metadata=metadata)
            records = from_table(file.read_row_group(number, use_threads=False))
            if checksum != chunk_checksum(records, self._key, number):
                raise ValueError("their values do not fit their checksum")
        return replace(records, seconds=seconds)

    @contextmanager
    def _records_refused(self, name: str) -> Iterator[None]:
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
                f"{self.path}/{name} was edited or damaged ({first_line(error)}); {ADVICE}"
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
