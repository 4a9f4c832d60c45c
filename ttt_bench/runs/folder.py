"""RunFolder: the files of one run, none of which a kill can leave half written."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.records import Records
from ttt_bench.api.regular_files import require_regular
from ttt_bench.runs.arrow import from_table, joined, opened_table, to_parquet, to_table
from ttt_bench.runs.card import Card, card_of, read_card, revisited_chunks
from ttt_bench.runs.checksum import (
    UNSEALED,
    chunk_checksum,
    require_sealed_file,
    sealed,
    sealed_file,
    unsealed,
)
from ttt_bench.runs.parts import Part
from ttt_bench.runs.states import StateFiles
from ttt_bench.toolkit.atomic import atomic_write

DEFAULT_OUTPUT = Path("ttt-bench-runs")
MANIFEST_FILE = "manifest.json"
COST_FILE = "cost.json"
SUMMARY_FILE = "summary.json"
# What a first attempt left behind that met unreadable images.
UNREADABLE_FILE = "unreadable.json"
# A temporary file as old as this belongs to a process that was killed.
ABANDONED_SECONDS = 3600
# Bytes that a file of a run may have; a link to something endless is not read.
LARGEST_JSON = 64_000_000
LARGEST_CHUNK = 2_000_000_000


class UnfinishedRunError(UserError):
    """A run of which some files are not there yet."""


class RunFolder:
    """`manifest.json`, `chunks/*.parquet`, `cost.json` and `summary.json` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.states = StateFiles(path / "states")

    def chunk_path(self, number: int) -> Path:
        """Return the file of chunk `number`."""
        return self.path / "chunks" / f"{number:06d}.parquet"

    def has(self, name: str) -> bool:
        """Say whether a JSON file is there; `manifest.json` is in every run that was begun."""
        return (self.path / name).exists()

    def begin(self, card: Card, about: Mapping[str, Any], replace: bool = False) -> None:
        """Write the manifest of a new run; one of the same run stays as it is.

        Args:
            card: the protocol card.
            about: what the manifest records beside the card.
            replace: whether to write the manifest anew.

        Raises:
            UserError: the folder cannot be written to, or another command has begun another run.
        """
        if replace or not self.has(MANIFEST_FILE):
            manifest = {
                "card": card.as_json(),
                "digests": card.digests,
                "fingerprint": card.fingerprint,
                "key": card.key,
                **about,
            }
            with (
                suppress(FileExistsError),
                _writing(self.path / MANIFEST_FILE, not replace) as file,
            ):
                _dump(sealed(manifest, card.key), file)
        self.require_key(card.key)
        # What was being written when a process was killed; somebody else may be writing now.
        for abandoned in self.path.rglob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - abandoned.stat().st_mtime > ABANDONED_SECONDS:
                    abandoned.unlink()

    def require_key(self, key: str) -> None:
        """Refuse to go on in a folder whose manifest is another run's by now.

        Raises:
            UserError: another command has begun another run here.
        """
        manifest = self.manifest()
        if manifest.get("key") != key:
            raise UserError(
                f"{self.path} holds another run by now, begun by another command; give another "
                "--output"
            )

    def manifest(self) -> dict[str, Any]:
        """Read the manifest.

        Raises:
            UnfinishedRunError: it is missing.
            UserError: it is damaged or was edited.
        """
        path = self.path / MANIFEST_FILE
        value = self._load(MANIFEST_FILE)
        # The card's own digests name the field that was edited.
        read_card(value, str(path))
        return self._unseal(MANIFEST_FILE, value, None)

    def card(self) -> Card:
        """Read the protocol card, checked against its digests."""
        return card_of(self.manifest())

    def read_json(self, name: str, key: str) -> dict[str, Any]:
        """Read one of the JSON files of the run with this key.

        Raises:
            UnfinishedRunError: it is missing.
            UserError: it is damaged, was edited, or belongs to another run.
        """
        return self._unseal(name, self._load(name), key)

    def write_json(self, name: str, value: Mapping[str, Any], key: str) -> None:
        """Write one of the JSON files of the run with this key."""
        with _writing(self.path / name) as temporary:
            _dump(sealed(value, key), temporary)

    def _load(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.exists():
            raise UnfinishedRunError(f"{path} is missing; run the same command to finish the run")
        require_regular(path, LARGEST_JSON)
        try:
            value = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({first_line(error)}); {_remedy(name)}") from error
        if not isinstance(value, dict):
            raise UserError(f"{path} is damaged (not a JSON object); {_remedy(name)}")
        return value

    def _unseal(self, name: str, value: Mapping[str, Any], key: str | None) -> dict[str, Any]:
        try:
            return unsealed(value, key)
        except ValueError as error:
            raise UserError(
                f"{self.path / name} was edited or damaged ({error}); {_remedy(name)}"
            ) from error

    def write_chunk(self, number: int, records: Records, key: str) -> None:
        """Save a finished chunk of the run with this key.

        Raises:
            UserError: the folder holds another run by now, or cannot be written to.
        """
        self.require_key(key)
        metadata = {
            "run": key,
            "chunk": str(number),
            "sha256": chunk_checksum(records, key, number),
            "file": UNSEALED,
        }
        with _writing(self.chunk_path(number)) as temporary:
            temporary.write_bytes(sealed_file(to_parquet(to_table(records, metadata))))

    def read_chunk(self, number: int, key: str, sample_ids: Sequence[str] | None = None) -> Records:
        """Read the records of one chunk of the run with this key.

        Raises:
            UnfinishedRunError: the file is missing.
            UserError: it is damaged, not of this run and place, or not of these samples.
        """
        path = self._require_chunk(number)
        require_regular(path, LARGEST_CHUNK)
        try:
            content = path.read_bytes()
            # The parser of parquet files ends the process on some damaged ones.
            require_sealed_file(content)
            table = opened_table(content, LARGEST_CHUNK).read(use_threads=False)
            records, metadata = from_table(table), table.schema.metadata
            if metadata[b"sha256"].decode() != chunk_checksum(
                records, metadata[b"run"].decode(), int(metadata[b"chunk"])
            ):
                raise ValueError("its values do not fit their checksum")
            if metadata[b"run"].decode() != key:
                raise ValueError("it belongs to another run")
            if int(metadata[b"chunk"]) != number:
                raise ValueError("it is another chunk of the run")
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({first_line(error)}); run the same command to do it again"
            ) from error
        if sample_ids is not None and records.sample_id != list(sample_ids):
            raise UserError(f"{path} holds other samples; run the same command to do it again")
        return records

    def _require_chunk(self, number: int) -> Path:
        path = self.chunk_path(number)
        if not path.exists():
            raise UnfinishedRunError(f"{path} is missing; run the same command to finish the run")
        return path

    def read_records(self) -> Records:
        """Read every record of a finished run with its logits, in the order of its plan.

        Raises:
            UserError: a chunk is missing or damaged.
        """
        return joined([part() for part in self.parts(self.card())])

    def parts(self, card: Card) -> list[Part]:
        """Return a function for each chunk of a finished run, in order, which reads the chunk.

        Args:
            card: the run's card.

        Raises:
            UnfinishedRunError: a chunk is missing.
            UserError: the card names no number of chunks.
        """
        count = card.method.get("chunks")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise UserError(f"{self.path / MANIFEST_FILE} does not say how many chunks there are")
        return self._chunk_parts(card, range(count))

    def revisited_parts(self, card: Card) -> list[Part]:
        """Return functions that read what came again at the end of a stream, often none.

        Args:
            card: the run's card.

        Raises:
            UnfinishedRunError: a chunk is missing.
        """
        first = card.method["chunks"]
        return self._chunk_parts(card, range(first, first + revisited_chunks(card)))

    def _chunk_parts(self, card: Card, numbers: range) -> list[Part]:
        parts = list[Part]()
        for number in numbers:
            self._require_chunk(number)
            parts.append(partial(self.read_chunk, number, card.key))
        return parts

    def holds_chunk_of(self, key: str) -> bool:
        """Say whether some chunk file is sound and belongs to the run with this key."""
        for path in sorted((self.path / "chunks").glob("*.parquet")):
            with suppress(UserError, ValueError):
                self.read_chunk(int(path.stem), key)
                return True
        return False

    def keep_aside(self) -> Path | None:
        """Move the folder aside under another name, and return its new path, None for none.

        Raises:
            UserError: it cannot be moved.
        """
        if not self.path.exists():
            return None
        names = (self.path.with_name(f"{self.path.name}.{i}") for i in range(1, 10_000))
        aside = next(name for name in names if not name.exists())
        try:
            self.path.rename(aside)
        except OSError as error:
            raise UserError(
                f"cannot move {self.path} aside ({error.strerror}); give another --output"
            ) from error
        return aside


def _remedy(name: str) -> str:
    if name == MANIFEST_FILE:
        return "run the same command to make it again, or give another --output"
    return "run the same command to make it again"


def _dump(value: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")


@contextmanager
def _writing(path: Path, exclusive: bool = False) -> Iterator[Path]:
    """Write a file of a run atomically.

    Raises:
        FileExistsError: the file is there, where it may not be.
        UserError: the disk is full or the folder cannot be written to.
    """
    try:
        with atomic_write(path, exclusive) as temporary:
            yield temporary
    except FileExistsError as error:
        if exclusive and error.filename != str(path.parent):
            raise
        raise UserError(f"cannot write {path}; give another --output") from error
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error}); what was finished before is kept: "
            "make room or give another --output, then run the same command"
        ) from error
