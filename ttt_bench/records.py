"""A run folder: its manifest, its chunk files, and nothing that a kill could leave half written."""

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ttt_bench.errors import UserError
from ttt_bench.protocol import Card, read_card

DEFAULT_OUTPUT = Path("ttt-bench-runs")
# A temporary file as old as this belongs to a process that was killed.
ABANDONED_SECONDS = 3600

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


@dataclass(frozen=True)
class Records:
    """What was predicted for each of N samples; metrics are functions of this alone.

    Attributes:
        sample_id: N opaque ids.
        group: N corruptions or domains, or None each.
        label: `[N]`.
        prediction: `[N]`, the last step's.
        confidence: `[N]`, the softmax probability of the prediction, 0 to 1.
        unadapted_prediction: `[N]`, before any step; None for a method that adapts nothing.
        step_predictions: `[N, T]` after each of T steps, None for a method that does not iterate.
        logits: `[N, C]`.
        seconds: time spent in the method, all samples together.
    """

    sample_id: list[str]
    group: list[str | None]
    label: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    unadapted_prediction: np.ndarray | None
    step_predictions: np.ndarray | None
    logits: np.ndarray
    seconds: float

    def __len__(self) -> int:
        return len(self.sample_id)

    @property
    def correct(self) -> np.ndarray:
        """Which predictions are right, bool `[N]`."""
        return self.prediction == self.label

    @property
    def correct_at_any_step(self) -> np.ndarray:
        """Which samples were right after at least one step, bool `[N]`."""
        if self.step_predictions is None:
            return self.correct
        return (self.step_predictions == self.label[:, None]).any(axis=1)

    def digest(self) -> str:
        """SHA-256 over every value: no page of a file, nor its header, can change unseen."""
        found = hashlib.sha256(json.dumps([self.sample_id, self.group]).encode())
        found.update(repr(self.seconds).encode())
        arrays = (self.label, self.prediction, self.unadapted_prediction, self.step_predictions)
        for values, kind in ((a, "<i4") for a in arrays):
            found.update(b"none" if values is None else values.astype(kind).tobytes())
        for values in (self.confidence, self.logits):
            found.update(values.astype("<f4").tobytes())
        return found.hexdigest()

    def in_order_of(self, sample_ids: Sequence[str]) -> "Records":
        """The same records in the order of these ids, which must be the same samples."""
        places = {name: place for place, name in enumerate(self.sample_id)}
        order = np.array([places[name] for name in sample_ids], dtype=int)
        before, steps = self.unadapted_prediction, self.step_predictions
        return Records(
            sample_id=list(sample_ids),
            group=[self.group[place] for place in order],
            label=self.label[order],
            prediction=self.prediction[order],
            confidence=self.confidence[order],
            unadapted_prediction=None if before is None else before[order],
            step_predictions=None if steps is None else steps[order],
            logits=self.logits[order],
            seconds=self.seconds,
        )

    def to_table(self) -> pa.Table:
        """As an Arrow table; the time and the digest go into its metadata."""
        steps = None if self.step_predictions is None else self.step_predictions.tolist()
        unadapted = self.unadapted_prediction
        about = {"seconds": repr(self.seconds), "sha256": self.digest()}
        columns = {
            "sample_id": self.sample_id,
            "group": self.group,
            "label": self.label,
            "prediction": self.prediction,
            "confidence": self.confidence,
            "unadapted_prediction": [None] * len(self) if unadapted is None else unadapted,
            "step_predictions": steps or [None] * len(self),
            "logits": list(self.logits),
        }
        return pa.table(columns, SCHEMA.with_metadata(about))

    @staticmethod
    def from_tables(tables: Sequence[pa.Table]) -> "Records":
        """The records of chunks, one after another."""
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
    values = column.combine_chunks()
    return values.flatten().to_numpy().reshape(len(column), -1)


class UnfinishedRunError(UserError):
    """A run whose files are not all there yet."""


class RunFolder:
    """`manifest.json`, `chunks/*.parquet`, `cost.json` and `summary.json` of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def chunk_path(self, number: int) -> Path:
        """Where chunk `number` is, or will appear whole."""
        return self.path / "chunks" / f"{number:06d}.parquet"

    def has(self, name: str) -> bool:
        """Whether a JSON file is there; with `manifest.json`, whether a run was begun here."""
        return (self.path / name).exists()

    def check(self, card: Card) -> None:
        """Refuse a folder that something else is in; the same run may continue.

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
                "card": {"column": card.column, "row": card.row},
                "digests": card.digests,
                "fingerprint": card.fingerprint,
                "key": card.key,
                **about,
            }
            self.write_json("manifest.json", manifest)
        # What was being written when a process was killed; somebody else may be writing now.
        for left in self.path.rglob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                    left.unlink()

    def manifest(self) -> dict[str, Any]:
        """The manifest.

        Raises:
            UserError: it is missing or damaged.
        """
        return self.read_json("manifest.json")

    def card(self) -> Card:
        """The protocol card, checked against its fingerprint."""
        return read_card(self.manifest(), str(self.path / "manifest.json"))

    def read_json(self, name: str) -> dict[str, Any]:
        """One of the JSON files.

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
        """Write one of the JSON files, whole or not at all."""
        with appearing(self.path / name) as temporary:
            temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8")

    def write_chunk(self, number: int, records: Records) -> None:
        """Save a finished chunk; its file appears whole or not at all."""
        with appearing(self.chunk_path(number)) as temporary:
            pq.write_table(records.to_table(), temporary)

    def read_chunk(self, number: int, sample_ids: Sequence[str] | None = None) -> Records:
        """The records of one chunk.

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
            records = Records.from_tables([table.cast(SCHEMA.with_metadata(table.schema.metadata))])
            if table.schema.metadata[b"sha256"].decode() != records.digest():
                raise ValueError("its values do not fit their checksum")
        except FileNotFoundError as error:
            raise UnfinishedRunError(
                f"{path} is missing; run the same command to finish the run"
            ) from error
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            reason = (str(error).splitlines() or ["unreadable"])[0]
            raise UserError(
                f"{path} is damaged ({reason}); run the same command to have it done again"
            ) from error
        if sample_ids is not None and records.sample_id != list(sample_ids):
            raise UserError(f"{path} holds other samples; run the same command")
        return records

    def read_records(self) -> Records:
        """Every record of a finished run, in the order of its plan.

        Raises:
            UserError: a chunk is missing or damaged.
        """
        count = self.manifest().get("chunks")
        if not isinstance(count, int) or count < 1:
            raise UserError(f"{self.path / 'manifest.json'} does not say how many chunks there are")
        parts = [self.read_chunk(number).to_table() for number in range(count)]
        return Records.from_tables(parts)


def _remedy(name: str) -> str:
    if name == "manifest.json":
        return "restore it, or run again with another --output"
    return "remove it and run the same command"


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a power cut; Windows keeps no handles of folders."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it takes the place of `path` at once.

    Raises:
        UserError: the disk is full or the folder cannot be written to.
    """
    # Processes of several machines may write to one folder.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error}); what was finished before is kept: "
            "make room or give another --output, then run the same command"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
