"""Comparing runs: the rows of their tables, every pair of rows, and averages over datasets."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from ttt_bench.compare.group import group_by_table
from ttt_bench.compare.names import row_name
from ttt_bench.compare.read import FinishedRun
from ttt_bench.compare.statistics import holm, paired, wilson
from ttt_bench.registry import registry
from ttt_bench.runs.card import differences

# Fields of the method part in which two methods differ by nature, and those that follow from it.
BY_NATURE = ("plugin", "config", "code.method")
DERIVED = ("method", "chunks", "known_failures", "dataset_preset")


def compare(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Return rows, pairs and averages as `compare --format json` prints them.

    Raises:
        UserError: two runs on one dataset differ in the protocol part of their cards.
    """
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for dataset, table in group_by_table(runs).items():
        rows += [
            {
                **run.summary,
                "path": str(run.path),
                "ci95": wilson(run.records.correct),
                "reference": None,
            }
            for run in table
        ]
        statistics = paired(np.stack([run.records.correct for run in table]))
        pairs += [
            {
                "dataset": dataset,
                "a": _names(left),
                "b": _names(right),
                **numbers,
                "method_differences": _method_differences(left, right),
            }
            for (left, right), numbers in zip(combinations(table, 2), statistics, strict=True)
        ]
    for pair, p_value in zip(pairs, holm([pair["p_mcnemar"] for pair in pairs]), strict=True):
        pair["p_holm"] = p_value
    return {"rows": rows, "pairs": pairs, "averages": averages(rows)}


def averages(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean top-1 over datasets, for each method, backbone and precision.

    `mean` is over all datasets of the rows, `ood_mean` over those whose spec does not call them
    `in_distribution` (Shu et al. 2022, table 1). Each is None where the method lacks a dataset or
    there is only one, `ood_mean` also where no dataset is in distribution.
    """
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    shifted = [name for name in datasets if not _in_distribution(name)]
    scores: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        name = row_name(row), row["method"], row["backbone"], row["precision"]
        scores.setdefault(name, {})[row["dataset"]] = row["top1"]
    return [
        {
            "name": name,
            "method": method,
            "backbone": backbone,
            "precision": precision,
            "mean": _mean(by_dataset, datasets),
            "ood_mean": _mean(by_dataset, shifted) if shifted != datasets else None,
        }
        for (name, method, backbone, precision), by_dataset in scores.items()
    ]


def _mean(scores: Mapping[str, float], datasets: Sequence[str]) -> float | None:
    if len(datasets) < 2 or not set(datasets) <= set(scores):
        return None
    return fmean(scores[name] for name in datasets)


def _in_distribution(dataset: str) -> bool:
    # The plugin that brings the dataset may be missing on this machine.
    item = registry().datasets.get(dataset.partition(":")[0])
    return item is not None and item.spec.in_distribution


def _names(run: FinishedRun) -> dict[str, str]:
    part = run.card.method
    return {
        "name": row_name(run.summary),
        "method": part["method"],
        "backbone": part["backbone"],
        "path": str(run.path),
    }


def _method_differences(left: FinishedRun, right: FinishedRun) -> list[str]:
    """Return the fields of the method part, besides the method itself, in which two rows differ.

    Two rows of one method also differ in their configuration or their code.
    """
    different = differences(left.card.method, right.card.method)
    same_method = left.card.method["method"] == right.card.method["method"]
    expected = DERIVED if same_method else (*DERIVED, *BY_NATURE)
    return sorted(
        name
        for name, _, _ in different
        if not any(f"{name}.".startswith(f"{field}.") for field in expected)
    )
