"""Comparing runs: the rows of their tables, pairs of rows, and averages over datasets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from ttt_bench.api.errors import UserError
from ttt_bench.compare.columns import columns
from ttt_bench.compare.labels import Named, labels, method_fields
from ttt_bench.compare.read import FinishedRun
from ttt_bench.compare.rows import Row, make_rows
from ttt_bench.compare.seeds import compare_over_seeds
from ttt_bench.compare.selection import Wanted, require_named
from ttt_bench.compare.statistics import holm, paired
from ttt_bench.registry import registry
from ttt_bench.runs.card import differences

# Fields of the method part in which two methods differ by nature, and those that follow from it.
BY_NATURE = ("plugin", "config", "code.method")
DERIVED = ("method", "chunks", "known_failures", "dataset_preset")
# The frozen models, of which the first one on a row's backbone is its baseline.
BASELINES = ("source", "clip-zero-shot")
MCNEMAR = "exact McNemar"
OVER_SEEDS = "bootstrap over samples and seeds"


@dataclass(frozen=True)
class Table:
    """A column of runs as rows.

    Attributes:
        title: what it is called, see `Column`.
        dataset: the dataset.
        rows: the rows.
        by_seed: whether each run is a row of its own.
    """

    title: str
    dataset: str
    rows: list[Row]
    by_seed: bool = False


def tabulate(runs: Sequence[FinishedRun], by_seed: bool = False) -> tuple[list[Table], list[str]]:
    """Return the tables of some runs, the largest first, and a line for each run that fits none.

    Args:
        runs: the runs.
        by_seed: whether each run is a row of its own; otherwise runs that differ in the seed alone
            are one row.

    Raises:
        UserError: two runs of a table saw other pixels under the same name.
    """
    found, left_out = columns(runs)
    tables = [
        Table(one.title, one.dataset, make_rows(one.runs, one.title, by_seed), by_seed)
        for one in found
    ]
    return tables, left_out


def compare(tables: Sequence[Table], against: Wanted | None = None) -> dict[str, Any]:
    """Return rows, pairs and averages as `compare --format json` prints them.

    Each row has as `baseline` its difference to the baseline of its table, None where there is
    none: to the row that is named, or to the frozen model on its backbone.

    Args:
        tables: the tables.
        against: the row that all others of its table are compared with; None for every pair.

    Raises:
        UserError: no row is named so, or several rows of a table are.
    """
    if against is not None:
        require_named([row for table in tables for row in table.rows], against, "--against")
    pairs: list[dict[str, Any]] = []
    named: dict[str, Row | None] = {}
    for table in tables:
        row = named[table.title] = None if against is None else _named_row(table, against)
        if against is None:
            pairs += _every_pair(table)
        elif row is not None:
            pairs += [_pair(table, one, row) for one in table.rows if one is not row]
    for pair, p_value in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = p_value
    by_rows = {(pair["column"], pair["a"]["name"], pair["b"]["name"]): pair for pair in pairs}
    rows = [
        {**row.summary, "baseline": _to_baseline(table, row, base, by_rows)}
        for table in tables
        for row in table.rows
        for base in [named[table.title] if against else _frozen(table, row)]
    ]
    return {"rows": rows, "pairs": pairs, "averages": averages(tables)}


def _named_row(table: Table, wanted: Wanted) -> Row | None:
    """Return the row of a table that is named, None where the table has none.

    Raises:
        UserError: several rows are.
    """
    meant = [row for row in table.rows if wanted.names(row)]
    exact = [row for row in meant if row.label == wanted.text]
    if len(exact or meant) > 1:
        raise UserError(
            f"--against {wanted.text} is several rows on {table.title}: "
            f"{', '.join(row.label for row in meant)}; name one of them"
        )
    return next(iter(exact or meant), None)


def _frozen(table: Table, row: Row) -> Row | None:
    """Return the frozen model on a row's backbone, None where the table has none."""
    alike = [
        other
        for other in table.rows
        if all(other.summary[name] == row.summary[name] for name in ("backbone", "precision"))
    ]
    return next(
        (other for name in BASELINES for other in alike if other.summary["method"] == name), None
    )


def _to_baseline(
    table: Table, row: Row, base: Row | None, pairs: Mapping[tuple[str, ...], Mapping[str, Any]]
) -> dict[str, Any] | None:
    if base is None:
        return None
    if base is row:
        return {"name": base.label, "difference": None, "ci95": None, "p_holm": None}
    pair = pairs.get((table.title, row.label, base.label))
    sign = 1 if pair is not None else -1
    pair = pair or pairs[table.title, base.label, row.label]
    return {
        "name": base.label,
        # Adding zero turns a negative zero into zero.
        "difference": sign * pair["difference"] + 0.0,
        "ci95": sorted(sign * bound + 0.0 for bound in pair["ci95"]),
        "p_holm": pair["p_holm"],
    }


def _every_pair(table: Table) -> Iterator[dict[str, Any]]:
    """Yield every pair of rows of a table; those of one seed are computed together."""
    single = [row for row in table.rows if len(row.runs) == 1]
    together: dict[tuple[str, str], dict[str, Any]] = {}
    if single:
        statistics = paired(np.stack([row.first.records.correct for row in single]))
        for (left, right), numbers in zip(combinations(single, 2), statistics, strict=True):
            together[left.label, right.label] = numbers
    for left, right in combinations(table.rows, 2):
        yield _pair(table, left, right, together.get((left.label, right.label)))


def _pair(
    table: Table, left: Row, right: Row, numbers: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what there is to say of two rows.

    Args:
        table: their table.
        left: the first row.
        right: the second row.
        numbers: what `paired` returns for them, None to compute it.
    """
    one_seed = len(left.runs) == len(right.runs) == 1
    if numbers is None and one_seed:
        (numbers,) = paired(np.concatenate([left.correct, right.correct]))
    if numbers is None:
        same = left.summary["seeds"] == right.summary["seeds"]
        numbers = compare_over_seeds(left.correct, right.correct, same)
    tested = {"p": numbers.get("p", numbers.get("p_mcnemar")), "p_mcnemar": None}
    return {
        "dataset": table.dataset,
        "column": table.title,
        "a": _names(left),
        "b": _names(right),
        **tested,
        **numbers,
        "test": MCNEMAR if one_seed else OVER_SEEDS,
        "method_differences": _method_differences(left.first, right.first),
    }


def averages(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Return the mean top-1 over datasets, for each method and configuration.

    `mean` is over all datasets of the tables, `ood_mean` over those whose spec does not call them
    `in_distribution` (Shu et al. 2022, table 1). Each is None where the method lacks a dataset or
    there is only one, `ood_mean` also where no dataset is in distribution. Of several tables on one
    dataset the first counts.

    Args:
        tables: the tables.
    """
    first = {table.dataset: table for table in reversed(tables)}
    datasets = list(dict.fromkeys(table.dataset for table in tables))
    shifted = [name for name in datasets if not _in_distribution(name)]
    variants: dict[tuple[str, ...], dict[str, Row]] = {}
    for name in datasets:
        for row in first[name].rows:
            fields = _across_datasets(row, first[name].by_seed)
            key = row.first.name, *(f"{k}={v}" for k, v in fields.items())
            if name in variants.get(key, {}):
                # Another row of the table differs in its code alone, or is a copy.
                key = *key, str(row.first.path)
            variants.setdefault(key, {})[name] = row
    rows = [next(iter(by_dataset.values())) for by_dataset in variants.values()]
    by_seed = any(table.by_seed for table in tables)
    names = labels(
        [Named(row.first.name, _across_datasets(row, by_seed), str(row.first.path)) for row in rows]
    )
    return [
        {
            "name": name,
            "method": row.summary["method"],
            "backbone": row.summary["backbone"],
            "precision": row.summary["precision"],
            "rows": {dataset: one.summary["path"] for dataset, one in by_dataset.items()},
            "mean": _mean(by_dataset, datasets),
            "ood_mean": _mean(by_dataset, shifted) if shifted != datasets else None,
        }
        for name, row, by_dataset in zip(names, rows, variants.values(), strict=True)
    ]


def _across_datasets(row: Row, by_seed: bool) -> dict[str, str]:
    """Return the fields of a row that stay what they are on another dataset."""
    fields = {
        name: value
        for name, value in method_fields(row.first.card).items()
        if name.startswith(("config.", "stream.")) or name in ("backbone", "precision")
        if name != "stream.revisited"
    }
    return {**fields, "seed": str(row.summary["seed"])} if by_seed else fields


def _mean(rows: Mapping[str, Row], datasets: Sequence[str]) -> float | None:
    if len(datasets) < 2 or not set(datasets) <= set(rows):
        return None
    return fmean(rows[name].summary["top1"] for name in datasets)


def _in_distribution(dataset: str) -> bool:
    # The plugin that brings the dataset may be missing on this machine.
    item = registry().datasets.get(dataset.partition(":")[0])
    return item is not None and item.spec.in_distribution


def _names(row: Row) -> dict[str, str]:
    part = row.first.card.method
    return {
        "name": row.label,
        "method": part["method"],
        "backbone": part["backbone"],
        "path": row.summary["path"],
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
