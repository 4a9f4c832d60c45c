"""Tables of measured runs: overview, groups, datasets, pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

from ttt_bench.compare.names import row_name
from ttt_bench.datasets.corruptions import SHORT_NAMES
from ttt_bench.registry import registry
from ttt_bench.report.grid import Grid, Part, best_cells, percent
from ttt_bench.report.notes import Summary, marked_name, shown_backbone


def result_grids(rows: Sequence[Summary]) -> list[Grid]:
    """Return overview and groups of every dataset of the rows."""
    grids = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        members = [row for row in rows if row["dataset"] == dataset]
        grids += [overview(dataset, members), by_group(dataset, members)]
    return [grid for grid in grids if grid is not None]


def overview(dataset: str, rows: Sequence[Summary]) -> Grid:
    """Return accuracy and cost of the runs on one dataset."""
    metrics = headings("overview")
    header = ["method", "backbone", "n", *metrics.values(), "GFLOPs", "memory MB", "ms/sample",
              "params updated"]  # fmt: skip
    lines = [
        [
            marked_name(row),
            shown_backbone(row),
            str(row["n"]),
            *(_with_interval(row) if name == "top1" else _score(row.get(name)) for name in metrics),
            f"{row['cost']['gflops_per_sample']:.3g}",
            f"{row['cost']['peak_memory_mb']:.1f}",
            f"{row['cost']['ms_per_sample']:.1f}",
            f"{row['cost']['parameters_updated']:,}",
        ]
        for row in rows
    ]
    best = best_cells([[row["top1"]] for row in rows], 3 + list(metrics).index("top1"))
    return Grid(dataset, header, lines, best, 2, (Part("cost", 3 + len(metrics)),))


def headings(table: str) -> dict[str, str]:
    """Return the heading of each metric that a table shows, see `MetricSpec.shown_in`."""
    return {
        name: item.spec.heading or name.replace("_", " ")
        for name, item in registry().metrics.items()
        if item.spec.shown_in == table
    }


def _score(value: Any) -> str:
    return percent(value) if isinstance(value, int | float) else "-"


def _with_interval(row: Summary) -> str:
    low, high = row.get("ci95", (None, None))
    return f"{row['top1']:.1f}" + (f" [{low:.1f}, {high:.1f}]" if low is not None else "")


def by_group(dataset: str, rows: Sequence[Summary]) -> Grid | None:
    """Return the top-1 of each corruption or domain, None where there are no groups.

    Corruptions stand as the papers print them: a column each, a row for every run, then the mean of
    all fifteen, and mCE where AlexNet's errors apply. Other groups are lines, the runs columns.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["groups"]))
    if not names:
        return None
    if any(row["corruptions"] for row in rows):
        return _by_corruption(dataset, rows, names)
    lines = [[name, *(percent(row["groups"].get(name)) for row in rows)] for name in names]
    return Grid(f"{dataset}, top-1 % by group", ["group", *map(marked_name, rows)], lines)


def _by_corruption(dataset: str, rows: Sequence[Summary], groups: Sequence[str]) -> Grid:
    corruptions = [c for c in SHORT_NAMES if any(c in row["corruptions"] for row in rows)]
    others = [name for name in groups if name.partition("@")[0] not in SHORT_NAMES]
    short = [SHORT_NAMES[name] for name in corruptions]
    header = ["method", "backbone", *others, *short, f"mean {len(SHORT_NAMES)}"]
    accuracies = [
        [
            *(row["groups"].get(name) for name in others),
            *(row["corruptions"].get(name) for name in corruptions),
            row["mean_corruption"],
        ]
        for row in rows
    ]
    lines = [
        [marked_name(row), shown_backbone(row), *map(percent, values)]
        for row, values in zip(rows, accuracies, strict=True)
    ]
    if any(row.get("mce") is not None for row in rows):
        header.append("mCE (lower is better)")
        for row, values, line in zip(rows, accuracies, lines, strict=True):
            error = row.get("mce")
            values.append(None if error is None else -error)
            line.append(percent(error))
    best = best_cells(accuracies, 2)
    return Grid(
        f"{dataset}, top-1 % by corruption", header, lines, best, 2, turns="group", named=True
    )


def by_dataset(rows: Sequence[Summary], averages: Sequence[Mapping[str, Any]]) -> Grid | None:
    """Return methods by datasets with their averages, None where there is one dataset only."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    if len(datasets) < 2:
        return None
    by_place = {
        (row_name(row), row["backbone"], row["precision"], row["dataset"]): row for row in rows
    }
    means = [name for name in ("mean", "ood_mean") if any(a[name] is not None for a in averages)]
    lines, values = [], []
    for average in averages:
        name = average["name"], average["backbone"], average["precision"]
        members = [by_place.get((*name, dataset)) for dataset in datasets]
        first = next(row for row in members if row is not None)
        values.append([row and row["top1"] for row in members] + [average[name] for name in means])
        cells = ["-" if row is None else f"{_with_interval(row)} n={row['n']}" for row in members]
        cells += [percent(average[name]) for name in means]
        lines.append([marked_name(first), shown_backbone(first), *cells])
    header = ["method", "backbone", *datasets, *(name.replace("ood_", "OOD ") for name in means)]
    return Grid("top-1 % by dataset", header, lines, best_cells(values, 2), 2, turns="dataset")


def pairs(compared: Sequence[Mapping[str, Any]]) -> Grid:
    """Return every pair of runs in one table: difference, interval, p-values, flips."""
    header = ["pair", "dataset", "difference", "95 % interval", "p (McNemar)", "p (Holm)",
              "wrong to right", "right to wrong", "n", "also differ in"]  # fmt: skip
    lines = [
        [
            f"{pair['a']['name']} - {pair['b']['name']}",
            pair["dataset"],
            f"{pair['difference']:+.1f}",
            f"[{pair['ci95'][0]:+.1f}, {pair['ci95'][1]:+.1f}]",
            f"{pair['p_mcnemar']:.2g}",
            f"{pair['p_holm']:.2g}",
            str(pair["wrong_to_right"]),
            str(pair["right_to_wrong"]),
            str(pair["n"]),
            ", ".join(pair["method_differences"]) or "nothing",
        ]
        for pair in compared
    ]
    title = "pairs on the same samples (percentage points)"
    parts = (Part("what changes", header.index("wrong to right"), optional=True),)
    return Grid(title, header, lines, parts=parts)
