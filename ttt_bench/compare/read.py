"""Reading finished runs from their folders and from exported files."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttt_bench.api.errors import UserError
from ttt_bench.api.records import Records
from ttt_bench.metrics.summary import print_warning, summarize
from ttt_bench.runs.archive import RunFiles, exported_runs, is_export
from ttt_bench.runs.card import Card, samples_digest
from ttt_bench.runs.folder import RunFolder, UnfinishedRunError
from ttt_bench.runs.schema import COST, MANIFEST, require_shape


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, read back from its folder or from an exported file.

    Attributes:
        files: what it was read from.
        manifest: `manifest.json`.
        cost: `cost.json`.
        card: the protocol card.
        records: the records, their logits cut to no columns. The summary has been made of the
            logits, and those of many runs would fill the memory.
        summary: metrics and cost as `run --format json` prints them.
    """

    files: RunFiles
    manifest: dict[str, Any]
    cost: dict[str, Any]
    card: Card
    records: Records
    summary: dict[str, Any]

    @property
    def path(self) -> Path:
        """The folder, or the exported file and the run in it."""
        return self.files.path

    @property
    def label(self) -> str:
        """Method and folder, for messages."""
        return f"{self.card.method['method']} ({self.path})"


def read_runs(paths: Sequence[Path]) -> list[FinishedRun]:
    """Read every finished run at or below the paths, rescored from its records.

    Runs that are unfinished or have lost their manifest are left out and named on standard error,
    as are metrics that fail.

    Raises:
        UserError: there is no finished run, or one is damaged.
    """
    runs, without_manifest = find_runs(paths)
    # Parsing, checksums and metrics mostly run outside of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        results = list(threads.map(_read_if_finished, runs))
    finished = [run for run, _, _ in results if run is not None]
    unfinished = [error for _, error, _ in results if error is not None]
    # A dictionary keeps the order and drops repetitions: a metric fails on every run alike.
    messages = dict.fromkeys(message for _, _, messages in results for message in messages)
    if not finished:
        raise unfinished[0] if unfinished else UserError(_no_manifest(without_manifest[0]))
    for error in unfinished:
        messages[f"left out, as it is not finished: {error}"] = None
    for folder in without_manifest:
        messages[f"left out: {_no_manifest(folder)}"] = None
    for message in messages:
        print_warning(message)
    return finished


def find_runs(paths: Sequence[Path]) -> tuple[list[RunFiles], list[Path]]:
    """Return the runs at or below the paths, and folders of runs that have lost their manifest.

    Args:
        paths: folders, and files that `ttt-bench export` made.

    Raises:
        UserError: a path is neither, or holds no run.
    """
    runs: list[RunFiles] = []
    without_manifest: list[Path] = []
    for path in paths:
        if not path.is_dir() and is_export(path):
            runs += exported_runs(path)
            continue
        if not path.is_dir():
            raise UserError(
                f"{path}: no such folder; give a run's folder, one that holds runs, or a file that "
                "`ttt-bench export` made"
            )
        before = len(runs) + len(without_manifest)
        for folder, inner, files in os.walk(path):
            inner.sort()
            if "manifest.json" in files:
                runs.append(RunFolder(Path(folder)))
            elif "chunks" in inner and any(Path(folder, "chunks").glob("*.parquet")):
                without_manifest.append(Path(folder))
            if "chunks" in inner:
                inner.remove("chunks")
        if len(runs) + len(without_manifest) == before:
            raise UserError(f"{path}: no run in it; make one with `ttt-bench run --output {path}`")
    # The same run may lie below two of the paths.
    once = {run.path: run for run in runs}
    return list(once.values()), list(dict.fromkeys(without_manifest))


def _no_manifest(folder: Path) -> str:
    return (
        f"{folder} holds the chunks of a run whose manifest.json is missing; restore it, or remove "
        "the folder and run again"
    )


def _read_if_finished(
    files: RunFiles,
) -> tuple[FinishedRun | None, UnfinishedRunError | None, list[str]]:
    """Read a run; return it, or the reason why it is unfinished, and the warnings of metrics."""
    warnings: list[str] = []
    try:
        return _read(files, warnings.append), None, warnings
    except UnfinishedRunError as error:
        return None, error, warnings


def _read(files: RunFiles, warn: Callable[[str], object]) -> FinishedRun:
    card, manifest = files.card(), files.manifest()
    require_shape(manifest, MANIFEST, str(files.path / "manifest.json"))
    parts = files.parts()
    cost = files.read_json("cost.json", card.key)
    require_shape(cost, COST, str(files.path / "cost.json"))
    summary, records = summarize(card, parts, cost, warn)
    if samples_digest(records.sample_id) != card.protocol["samples"]:
        raise UserError(
            f"{files.path}: its records are not of the samples that its card names; "
            "run the same command to compute them again"
        )
    return FinishedRun(files, manifest, cost, card, records, summary)
