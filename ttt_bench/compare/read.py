"""Reading finished runs and putting those that may stand together into columns."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from ttt_bench.api.errors import UserError
from ttt_bench.api.records import Records
from ttt_bench.compare.statistics import holm, paired, wilson
from ttt_bench.metrics.summary import summarize
from ttt_bench.registry import registry
from ttt_bench.runs.card import Card, differences, samples_digest
from ttt_bench.runs.folder import RunFolder, UnfinishedRunError
from ttt_bench.runs.schema import COST, MANIFEST, require_shape


@dataclass(frozen=True)
class FinishedRun:
    """A run read back from its folder."""

    path: Path
    manifest: dict[str, Any]
    counted: dict[str, Any]
    card: Card
    records: Records
    summary: dict[str, Any]

    @property
    def label(self) -> str:
        """Method and folder, for messages."""
        return f"{self.card.method['method']} ({self.path})"


def read_runs(paths: Sequence[Path]) -> list[FinishedRun]:
    """Every finished run at or below the paths, rescored from its records.

    Those that are not finished are named on standard error and left out.

    Raises:
        UserError: there is none, or one is damaged.
    """
    folders = []
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; give a run's folder or one that holds runs")
        found = sorted(manifest.parent for manifest in path.rglob("manifest.json"))
        if not found:
            raise UserError(f"{path}: no run in it; make one with `ttt-bench run --output {path}`")
        folders += found
    finished: list[FinishedRun] = []
    unfinished: list[UnfinishedRunError] = []
    for folder in dict.fromkeys(folders):
        try:
            finished.append(_read(RunFolder(folder)))
        except UnfinishedRunError as error:
            unfinished.append(error)
    if not finished:
        raise unfinished[0]
    for error in unfinished:
        print(f"left out, as it is not finished: {error}", file=sys.stderr)
    return finished


def _read(folder: RunFolder) -> FinishedRun:
    card = folder.card()
    require_shape(folder.manifest(), MANIFEST, str(folder.path / "manifest.json"))
    records = folder.read_records()
    if samples_digest(records.sample_id) != card.protocol["samples"]:
        raise UserError(
            f"{folder.path}: its records are not of the samples that its card names; "
            "run the same command to have them done again"
        )
    counted = folder.read_json("cost.json")
    require_shape(counted, COST, str(folder.path / "cost.json"))
    summary = summarize(card, records, counted)
    return FinishedRun(folder.path, folder.manifest(), counted, card, records, summary)


def columns(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """The runs by dataset.

    Raises:
        UserError: two of one dataset differ in the column part of their cards.
    """
    by_dataset: dict[str, list[FinishedRun]] = {}
    for run in runs:
        column = by_dataset.setdefault(run.card.protocol["dataset"], [])
        if column and column[0].card.fingerprint != run.card.fingerprint:
            first = column[0]
            pairs = differences(first.card.protocol, run.card.protocol)
            # What was asked for says more than the samples that followed from it.
            asked = ("limit", "seed", "revision", "class_names")
            field, mine, theirs = min(pairs, key=lambda p: (p[0] not in asked, p[0]))
            raise UserError(
                f"{first.label} and {run.label} cannot stand in one column: {field} is {mine} in "
                f"the first and {theirs} in the second; name the runs to compare"
            )
        # Pairs are by place; a method with rngs of its own has its records in another order.
        elif column and column[0].records.sample_id != run.records.sample_id:
            ids = column[0].records.sample_id
            run = replace(run, records=run.records.in_order_of(ids))
        column.append(run)
    return by_dataset


def compare(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Rows and pairs as `compare --format json` prints them."""
    rows, pairs = [], []
    for column in columns(runs).values():
        for run in column:
            row = {**run.summary, "path": str(run.path)}
            rows.append({**row, "ci95": wilson(run.records.correct), "reference": None})
        for mine, theirs in combinations(column, 2):
            pairs.append(
                {
                    "dataset": mine.card.protocol["dataset"],
                    "a": _names(mine),
                    "b": _names(theirs),
                    **paired(mine.records.correct, theirs.records.correct),
                    "row_differences": _row_differences(mine.card, theirs.card),
                }
            )
    corrected = holm([pair["p_mcnemar"] for pair in pairs])
    pairs = [{**pair, "p_holm": p} for pair, p in zip(pairs, corrected, strict=True)]
    return {"rows": rows, "pairs": pairs, "averages": averages(rows)}


def averages(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each method and backbone the mean top-1 over the datasets, where it has all of them.

    `mean` is over all datasets of the comparison, `ood_mean` over those that are out of
    distribution (Shu et al. 2022, table 1); None where a dataset is missing or there is only one.
    """
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        scores.setdefault((row["method"], row["backbone"]), {})[row["dataset"]] = row["top1"]
    shifted = [name for name in datasets if not _in_distribution(name)]

    def mean(own: Mapping[str, float], wanted: list[str]) -> float | None:
        if len(wanted) < 2 or not set(wanted) <= set(own):
            return None
        return fmean(own[name] for name in wanted)

    return [
        {
            "method": method,
            "backbone": backbone,
            "mean": mean(own, datasets),
            "ood_mean": mean(own, shifted) if shifted != datasets else None,
        }
        for (method, backbone), own in scores.items()
    ]


def _in_distribution(dataset: str) -> bool:
    known = registry().datasets.get(dataset.partition(":")[0])
    return known is not None and known.spec.in_distribution


def _names(run: FinishedRun) -> dict[str, str]:
    row = run.card.method
    return {"method": row["method"], "backbone": row["backbone"], "path": str(run.path)}


def _row_differences(mine: Card, theirs: Card) -> list[str]:
    """Fields besides the method itself in which two rows of a column differ."""
    own = ("method", "plugin", "config")
    found = differences(mine.method, theirs.method)
    return sorted({name for name, _, _ in found if name.split(".")[0] not in own})
