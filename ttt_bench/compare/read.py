"""Reading finished runs from their folders and from exported files."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError
from ttt_bench.api.records import Records
from ttt_bench.compare.processes import read_many
from ttt_bench.datasets.loading import load_dataset
from ttt_bench.metrics.summary import print_warning, summarize
from ttt_bench.runs.archive import SUFFIX, RunFiles, exported_runs, is_export
from ttt_bench.runs.card import Card, card_of, samples_digest
from ttt_bench.runs.folder import RunFolder, UnfinishedRunError
from ttt_bench.runs.schema import COST, require_manifest, require_shape


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, read back from its folder or from an exported file.

    Attributes:
        files: what it was read from.
        manifest: `manifest.json`.
        cost: `cost.json`.
        card: the protocol card.
        records: the records without their logits, of which the summary has been made.
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
    def name(self) -> str:
        """The name that the user gave the run, the method's where the user gave none."""
        name = self.manifest.get("name")
        return name if isinstance(name, str) and name else self.card.method["method"]

    @property
    def label(self) -> str:
        """Method and folder, for messages."""
        return f"{self.card.method['method']} ({self.path})"

    def load_dataset(self) -> Dataset:
        """Load the dataset as the run has named it.

        Raises:
            UserError: it is not here.
        """
        worker = self.manifest["worker"]
        root = worker["data_root"]
        return load_dataset(worker["dataset"], Path(root) if root else None)


def read_runs(
    paths: Sequence[Path], warn: Callable[[str], object] = print_warning
) -> list[FinishedRun]:
    """Read every finished run at or below the paths, rescored from its records.

    Args:
        paths: folders, and files that `ttt-bench export` made.
        warn: is told, in one line each, of metrics that fail, and of runs that are left out because
            they are unfinished or have lost their manifest.

    Raises:
        UserError: there is no finished run, or one is damaged.
    """
    runs, without_manifest = find_runs(paths)
    finished: list[FinishedRun] = []
    unfinished: list[UnfinishedRunError] = []
    # A dictionary keeps the order and drops repetitions: a metric fails on every run alike.
    messages: dict[str, None] = {}
    for result, warnings in read_many(runs, _read_if_finished):
        messages |= dict.fromkeys(warnings)
        if isinstance(result, UnfinishedRunError):
            unfinished.append(result)
        else:
            finished.append(_sharing_names(result, finished))
    if not finished:
        raise unfinished[0] if unfinished else UserError(_no_manifest(without_manifest[0]))
    for error in unfinished:
        messages[f"left out, as it is not finished: {error}"] = None
    for folder in without_manifest:
        messages[f"left out: {_no_manifest(folder)}"] = None
    for message in messages:
        warn(message)
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
            exported = sorted(path.glob(f"*{SUFFIX}"))
            advice = (
                f"name the exported files in it, such as {exported[0]}"
                if exported
                else f"make one with `ttt-bench run --output {path}`"
            )
            raise UserError(f"{path}: no run in it; {advice}")
    # The same run may lie below two of the paths.
    once = {run.path: run for run in runs}
    return list(once.values()), list(dict.fromkeys(without_manifest))


def _no_manifest(folder: Path) -> str:
    return (
        f"{folder} holds the chunks of a run whose manifest.json is missing; restore it, or remove "
        "the folder and run again"
    )


def _sharing_names(run: FinishedRun, others: Sequence[FinishedRun]) -> FinishedRun:
    """Return a run whose names are those of another run of its samples, where they are equal.

    The names of 3,750,000 samples take 0.7 GB, which a table of runs then has once.
    """
    samples = run.card.protocol["samples"]
    other = next((other for other in others if other.card.protocol["samples"] == samples), None)
    if other is None:
        return run
    same = {
        name: getattr(other.records, name)
        for name in ("sample_id", "group", "image_digest")
        if getattr(run.records, name) == getattr(other.records, name)
    }
    return replace(run, records=replace(run.records, **same))


def _read_if_finished(
    files: RunFiles,
) -> tuple[FinishedRun | UnfinishedRunError, list[str]]:
    """Return a run, or why it is unfinished, and the warnings of its metrics."""
    warnings: list[str] = []
    try:
        return _read(files, warnings.append), warnings
    except UnfinishedRunError as error:
        return error, warnings


def _read(files: RunFiles, warn: Callable[[str], object]) -> FinishedRun:
    manifest = files.manifest()
    require_manifest(manifest, str(files.path / "manifest.json"))
    card = card_of(manifest)
    parts = files.parts(card)
    cost = files.read_json("cost.json", card.key)
    require_shape(cost, COST, str(files.path / "cost.json"))
    summary, records = summarize(card, parts, cost, warn, files.revisited_parts(card))
    if samples_digest(records.sample_id) != card.protocol["samples"]:
        raise UserError(
            f"{files.path}: its records are not of the samples that its card names; "
            "run the same command to compute them again"
        )
    return FinishedRun(files, manifest, cost, card, records, summary)
