"""RunFolder: the files of one run, none of which a kill can leave half written."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.records import Records
from ttt_bench.runs.arrow import REQUIRED, SCHEMA, from_tables, to_table
from ttt_bench.runs.card import Card, read_card
from ttt_bench.toolkit.atomic import atomic_write

DEFAULT_OUTPUT = Path("ttt-bench-runs")
# A temporary file as old as this belongs to a process that was killed.
ABANDONED_SECONDS = 3600


class UnfinishedRunError(UserError):
    """A run of which some files are not there yet."""


class RunFolder:
    """`manifest.json`, `chunks/*.parquet`, `cost.json` and `summary.json` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def chunk_path(self, number: int) -> Path:
        """Return the file of chunk `number`."""
        return self.path / "chunks" / f"{number:06d}.parquet"

    def has(self, name: str) -> bool:
        """Say whether a JSON file is there; `manifest.json` is in every run that was begun."""
        return (self.path / name).exists()

    def require_same_run(self, card: Card) -> None:
        """Refuse a folder that holds anything but this run.

        Raises:
            UserError: it holds another run, or anything but a run.
        """
        if self.has("manifest.json"):
            difference = card.first_difference(self.card())
            if difference:
                raise UserError(
                    f"{self.path} holds another run ({difference}); "
                    "give another --output, or remove the folder"
                )
        # What a kill left of a manifest that never appeared is no run.
        elif self.path.is_dir() and any(p.suffix != ".tmp" for p in self.path.iterdir()):
            raise UserError(f"{self.path} is not empty and holds no run; give another --output")

    def begin(self, card: Card, about: Mapping[str, Any]) -> None:
        """Write the manifest of a new run; one that is there stays as it is.

        Raises:
            UserError: the folder cannot be written to.
        """
        if not self.has("manifest.json"):
            manifest = {
                "card": card.as_json(),
                "digests": card.digests,
                "fingerprint": card.fingerprint,
                "key": card.key,
                **about,
            }
            self.write_json("manifest.json", manifest)
        # What was being written when a process was killed; somebody else may be writing now.
        for abandoned in self.path.rglob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - abandoned.stat().st_mtime > ABANDONED_SECONDS:
                    abandoned.unlink()

    def manifest(self) -> dict[str, Any]:
        """Read the manifest.

        Raises:
            UserError: it is missing or damaged.
        """
        return self.read_json("manifest.json")

    def card(self) -> Card:
        """Read the protocol card, checked against its fingerprint."""
        return read_card(self.manifest(), str(self.path / "manifest.json"))

    def read_json(self, name: str) -> dict[str, Any]:
        """Read one of the JSON files.

        Raises:
            UserError: it is missing or damaged.
        """
        path = self.path / name
        try:
            value = json.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise UnfinishedRunError(
                f"{path} is missing; run the same command to finish the run"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({error}); {_remedy(name)}") from error
        if not isinstance(value, dict):
            raise UserError(f"{path} is damaged (not a JSON object); {_remedy(name)}")
        return value

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one of the JSON files."""
        with _writing(self.path / name) as temporary:
            temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8")

    def write_chunk(self, number: int, records: Records) -> None:
        """Save a finished chunk."""
        with _writing(self.chunk_path(number)) as temporary:
            pq.write_table(to_table(records), temporary)

    def read_chunk(self, number: int, sample_ids: Sequence[str] | None = None) -> Records:
        """Read the records of one chunk.

        Raises:
            UnfinishedRunError: the file is missing.
            UserError: it is damaged, or not of these samples.
        """
        path = self.chunk_path(number)
        try:
            # The bytes are read first: what the parser maps into memory cannot vanish under it.
            table = pq.ParquetFile(pa.BufferReader(path.read_bytes())).read()
            if any(table[name].null_count for name in REQUIRED):
                raise ValueError("values are missing")
            records = from_tables([table.cast(SCHEMA.with_metadata(table.schema.metadata))])
            if table.schema.metadata[b"sha256"].decode() != records.digest():
                raise ValueError("its values do not fit their checksum")
        except FileNotFoundError as error:
            raise UnfinishedRunError(
                f"{path} is missing; run the same command to finish the run"
            ) from error
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} is damaged ({first_line(error)}); run the same command to do it again"
            ) from error
        if sample_ids is not None and records.sample_id != list(sample_ids):
            raise UserError(f"{path} holds other samples; run the same command")
        return records

    def read_records(self) -> Records:
        """Read every record of a finished run, in the order of its plan.

        Raises:
            UserError: a chunk is missing or damaged.
        """
        count = self.manifest().get("chunks")
        if not isinstance(count, int) or count < 1:
            raise UserError(f"{self.path / 'manifest.json'} does not say how many chunks there are")
        return from_tables([to_table(self.read_chunk(number)) for number in range(count)])


def _remedy(name: str) -> str:
    if name == "manifest.json":
        return "restore it, or run again with another --output"
    return "remove it and run the same command"


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Write a file of a run atomically.

    Raises:
        UserError: the disk is full or the folder cannot be written to.
    """
    try:
        with atomic_write(path) as temporary:
            yield temporary
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error}); what was finished before is kept: "
            "make room or give another --output, then run the same command"
        ) from error
