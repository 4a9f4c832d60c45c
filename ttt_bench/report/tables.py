"""Tables of measured runs: overview, groups, datasets, pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

from ttt_bench.compare.selection import number_of
from ttt_bench.compare.statistics import LEVEL
from ttt_bench.datasets.corruptions import SHORT_NAMES
from ttt_bench.registry import registry
from ttt_bench.report.grid import Grid, Part, best_cells, percent, three_digits
from ttt_bench.report.notes import Summary, marked_name, shown_backbone

# The mark of a difference that is more than noise.
CLEAR = "*"
# The costs of a sample by their names in `run --format json`: heading and text.
COSTS = {
    "gflops_per_sample": ("GFLOPs", three_digits),
    "peak_memory_mb": ("memory MB", "{:.1f}".format),
    "ms_per_sample": ("ms/sample", "{:.1f}".format),
    "parameters_updated": ("params updated", "{:,.0f}".format),
}
SHOWN_COSTS = ("gflops_per_sample", "peak_memory_mb", "ms_per_sample")


def by_column(rows: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Return the rows of each table by its title."""
    titles = dict.fromkeys(row["column"] for row in rows)
    return {title: [row for row in rows if row["column"] == title] for title in titles}


def overview(title: str, rows: Sequence[Summary], metrics: Sequence[str] = ()) -> Grid:
    """Return the answer of a table: accuracy with its interval, difference to the baseline, cost.

    Args:
        title: the title of the table.
        rows: its rows.
        metrics: the metrics and costs to show instead, by name.
    """
    seeds = any(len(row.get("seeds", ())) > 1 for row in rows)
    header = ["method", "backbone", "n", *(["seeds"] if seeds else [])]
    lines = [
        [marked_name(row), shown_backbone(row), str(row["n"])]
        + ([str(len(row["seeds"]))] if seeds else [])
        for row in rows
    ]
    labels, further = len(header), 0
    columns = {name: [_cell(row, name) for row in rows] for name in metrics or _answer(rows)}
    if not metrics:
        further = labels + len(columns)
        columns |= {
            name: [_cell(row, name) for row in rows]
            for name in headings("overview")
            # Exported records come without logits, so no row has a metric of logits.
            if name != "top1" and any(number_of(row, name) is not None for row in rows)
        }
    header += [_heading(name, rows) for name in columns]
    lines = [
        [*line, *(cells[place] for cells in columns.values())] for place, line in enumerate(lines)
    ]
    best = frozenset[tuple[int, int]]()
    if "top1" in columns:
        best = best_cells([[row["top1"]] for row in rows], labels + list(columns).index("top1"))
    parts = ()
    if not metrics:
        cost = labels + list(columns).index(SHOWN_COSTS[0])
        further = () if further == len(header) else (Part("further metrics", further),)
        parts = (Part("cost", cost), *further)
    return Grid(title, header, lines, best, 2, parts)


def _answer(rows: Sequence[Summary]) -> list[str]:
    """Return the names of the columns that hold the answer."""
    compared = any((row.get("baseline") or {}).get("difference") is not None for row in rows)
    return ["top1", *(["baseline"] if compared else []), *SHOWN_COSTS]


def _heading(name: str, rows: Sequence[Summary]) -> str:
    if name == "baseline":
        names = {row["baseline"]["name"] for row in rows if row.get("baseline")}
        return f"to {names.pop()}" if len(names) == 1 else "to its baseline"
    if name in COSTS:
        return COSTS[name][0]
    item = registry().metrics.get(name)
    return (item.spec.heading if item else "") or name.replace("_", " ")


def _cell(row: Summary, name: str) -> str:
    """Return a metric, a cost, or the difference to the baseline as a cell."""
    if name == "top1":
        return with_interval(row)
    if name == "baseline":
        return _difference(row.get("baseline"))
    value = number_of(row, name)
    if value is None:
        return "-"
    if name in COSTS:
        return COSTS[name][1](value)
    shown = percent(value) if name in headings("overview") else f"{value:.4g}"
    return shown + _spread(row, name)


def _difference(baseline: Mapping[str, Any] | None) -> str:
    if baseline is None:
        return "-"
    if baseline["difference"] is None:
        return "(baseline)"
    low, high = baseline["ci95"]
    mark = CLEAR if baseline["p_holm"] < LEVEL else ""
    return f"{baseline['difference']:+.1f}{mark} [{low:+.1f}, {high:+.1f}]"


def _spread(row: Summary, name: str) -> str:
    """Return the standard deviation over the seeds, "" for one seed."""
    spread = (row.get("sd") or {}).get(name)
    return "" if spread is None else f" ± {spread:.1f}" if spread >= 0.05 else f" ± {spread:.2g}"


def headings(table: str) -> dict[str, str]:
    """Return the heading of each metric that a table shows, see `MetricSpec.shown_in`."""
    return {
        name: item.spec.heading or name.replace("_", " ")
        for name, item in registry().metrics.items()
        if item.spec.shown_in == table
    }


def with_interval(row: Summary) -> str:
    """Return a row's top-1 with its spread over the seeds and its interval."""
    low, high = row.get("ci95", (None, None))
    interval = f" [{low:.1f}, {high:.1f}]" if low is not None else ""
    return f"{row['top1']:.1f}{_spread(row, 'top1')}{interval}"


def by_group(title: str, rows: Sequence[Summary]) -> Grid | None:
    """Return the top-1 of each corruption or domain, None where there are no groups.

    Corruptions stand as the papers print them: a column each, a row for every run, then the mean of
    all fifteen, and mCE where AlexNet's errors apply. Other groups are lines, the runs columns.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["groups"]))
    if not names:
        return None
    if any(row["corruptions"] for row in rows):
        return _by_corruption(title, rows, names)
    lines = [[name, *(percent(row["groups"].get(name)) for row in rows)] for name in names]
    return Grid(f"{title}, top-1 % by group", ["group", *map(marked_name, rows)], lines)


def _by_corruption(title: str, rows: Sequence[Summary], groups: Sequence[str]) -> Grid:
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
        f"{title}, top-1 % by corruption", header, lines, best, 2, turns="group", named=True
    )


def by_dataset(rows: Sequence[Summary], averages: Sequence[Mapping[str, Any]]) -> Grid | None:
    """Return methods by datasets with their averages, None where there is one dataset only."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    if len(datasets) < 2:
        return None
    by_path = {(row["dataset"], row["path"]): row for row in rows}
    means = [name for name in ("mean", "ood_mean") if any(a[name] is not None for a in averages)]
    lines, values = [], []
    for average in averages:
        members = [by_path.get((name, average["rows"].get(name, ""))) for name in datasets]
        first = next(row for row in members if row is not None)
        values.append([row and row["top1"] for row in members] + [average[name] for name in means])
        cells = ["-" if row is None else f"{with_interval(row)} n={row['n']}" for row in members]
        cells += [percent(average[name]) for name in means]
        lines.append([marked_name({**first, "variant": average["name"]}), shown_backbone(first)])
        lines[-1] += cells
    header = ["method", "backbone", *datasets, *(name.replace("ood_", "OOD ") for name in means)]
    return Grid("top-1 % by dataset", header, lines, best_cells(values, 2), 2, turns="dataset")


def pairs(compared: Sequence[Mapping[str, Any]]) -> Grid:
    """Return every pair of runs in one table: difference, interval, p-values, flips."""
    seeds = any(pair["p_mcnemar"] is None for pair in compared)
    header = ["pair", "dataset", "difference", "95 % interval", "p" if seeds else "p (McNemar)",
              "p (Holm)", "wrong to right", "right to wrong", "n", "also differ in"]  # fmt: skip
    lines = [
        [
            f"{pair['a']['name']} - {pair['b']['name']}",
            pair["column"],
            f"{pair['difference']:+.1f}",
            f"[{pair['ci95'][0]:+.1f}, {pair['ci95'][1]:+.1f}]",
            f"{pair['p']:.2g}",
            f"{pair['p_holm']:.2g}",
            f"{pair['wrong_to_right']:.6g}",
            f"{pair['right_to_wrong']:.6g}",
            str(pair["n"]),
            ", ".join(pair["method_differences"]) or "nothing",
        ]
        for pair in compared
    ]
    title = "pairs on the same samples (percentage points)"
    parts = (Part("what changes", header.index("wrong to right"), optional=True),)
    return Grid(title, header, lines, parts=parts)
