"""What the tables of runs say, as grids of strings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttt_bench.api.reference import Table
from ttt_bench.datasets.corruptions import SHORT_NAMES

Summary = Mapping[str, Any]

COUNTING = (
    "oracle top-1 counts a sample as right if any step was: it peeks at the labels and is an upper "
    "bound, not a result. GFLOPs per sample are forward and backward of teacher and student, two "
    "per multiply-add. Memory is the peak of live tensors for one sample, weights included."
)

LABELS_USED = "†"


def notes(rows: Sequence[Summary]) -> list[str]:
    """What a reader of these rows has to know."""
    learned: dict[str, list[str]] = {}
    for row in rows:
        if row["labelled_data"]:
            learned.setdefault(row["labelled_data"], []).append(row["method"])
    said = [
        f"{LABELS_USED} {', '.join(dict.fromkeys(methods))}: {data}."
        for data, methods in learned.items()
    ]
    return [*said, COUNTING]


@dataclass(frozen=True)
class Grid:
    """A table as strings; the first column is left-aligned.

    Attributes:
        best: (row, column) of the cells that are the best of their column.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    best: frozenset[tuple[int, int]] = frozenset()


def overview(dataset: str, rows: Sequence[Summary]) -> Grid:
    """Accuracy and cost of the runs of one dataset."""
    header = ["method", "backbone", "n", "top-1 %", "top-5 %", "oracle top-1 %", "GFLOPs",
              "memory MB", "ms/sample", "params updated"]  # fmt: skip
    best = _best([[row["top1"]] for row in rows], 3)
    return Grid(dataset, header, [[*_names(row), *_figures(row)] for row in rows], best)


def _names(row: Summary) -> list[str]:
    return [_marked(row), row["backbone"], str(row["n"])]


def _marked(row: Summary) -> str:
    return row["method"] + (LABELS_USED if row["labelled_data"] else "")


def _figures(row: Summary) -> list[str]:
    cost = row["cost"]
    return [
        _with_interval(row),
        f"{row['top5']:.1f}",
        f"{row['oracle_top1']:.1f}",
        f"{cost['gflops_per_sample']:.3g}",
        f"{cost['peak_memory_mb']:.1f}",
        f"{cost['ms_per_sample']:.1f}",
        f"{cost['parameters_updated']:,}",
    ]


def _with_interval(row: Summary) -> str:
    low, high = row.get("ci95", (None, None))
    return f"{row['top1']:.1f}" + (f" [{low:.1f}, {high:.1f}]" if low is not None else "")


def _best(values: Sequence[Sequence[float | None]], first: int) -> frozenset[tuple[int, int]]:
    """The highest of every column as it is printed, ties included; of a lone row nothing."""
    best: set[tuple[int, int]] = set()
    for column, cells in enumerate(zip(*values, strict=True)):
        known = [round(cell, 1) for cell in cells if cell is not None]
        if len(values) > 1 and known:
            best |= {
                (row, first + column)
                for row, cell in enumerate(cells)
                if cell is not None and round(cell, 1) == max(known)
            }
    return frozenset(best)


def by_group(dataset: str, rows: Sequence[Summary]) -> Grid | None:
    """Top-1 of each corruption or domain; None where there are no groups.

    Corruptions stand as the papers print them: a column each, a row for every run, then the mean of
    all fifteen, and mCE where AlexNet's errors apply. Other groups are lines, the runs columns.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["groups"]))
    if not names:
        return None
    corruptions = [c for c in SHORT_NAMES if any(c in row["corruptions"] for row in rows)]
    if corruptions:
        others = [name for name in names if name.partition("@")[0] not in SHORT_NAMES]
        values = [
            [
                *(row["groups"].get(name) for name in others),
                *(row["corruptions"].get(name) for name in corruptions),
                row["mean_corruption"],
            ]
            for row in rows
        ]
        lines = [
            [_marked(row), row["backbone"], *map(_percent, own)]
            for row, own in zip(rows, values, strict=True)
        ]
        short = [SHORT_NAMES[name] for name in corruptions]
        header = ["method", "backbone", *others, *short, f"mean {len(SHORT_NAMES)}"]
        if any(row["mce"] is not None for row in rows):
            header.append("mCE (lower is better)")
            for row, own, line in zip(rows, values, lines, strict=True):
                own.append(None if row["mce"] is None else -row["mce"])
                line.append(_percent(row["mce"]))
        return Grid(f"{dataset}, top-1 % by corruption", header, lines, _best(values, 2))
    lines = [[name, *(_percent(row["groups"].get(name)) for row in rows)] for name in names]
    return Grid(f"{dataset}, top-1 % by group", ["group", *map(_marked, rows)], lines)


def by_dataset(rows: Sequence[Summary], averages: Sequence[Mapping[str, Any]]) -> Grid | None:
    """Methods by datasets with their averages; None where there is one dataset only."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    if len(datasets) < 2:
        return None
    cells = {(row["method"], row["backbone"], row["dataset"]): row for row in rows}
    means = [name for name in ("mean", "ood_mean") if any(a[name] is not None for a in averages)]
    lines, values = [], []
    for own in averages:
        found = [cells.get((own["method"], own["backbone"], dataset)) for dataset in datasets]
        first = next(row for row in found if row is not None)
        values.append([row and row["top1"] for row in found] + [own[name] for name in means])
        text = ["-" if row is None else f"{_with_interval(row)} n={row['n']}" for row in found]
        lines.append(
            [_marked(first), own["backbone"], *text, *(_percent(own[name]) for name in means)]
        )
    header = ["method", "backbone", *datasets, *(name.replace("ood_", "OOD ") for name in means)]
    return Grid("top-1 % by dataset", header, lines, _best(values, 2))


def pairs(found: Sequence[Mapping[str, Any]]) -> Grid:
    """Every pair of runs on one column: difference, interval, p, flips."""
    header = ["pair", "dataset", "difference", "95 % interval", "p (McNemar)", "p (Holm)",
              "wrong to right", "right to wrong", "n", "rows differ in"]  # fmt: skip
    lines = [
        [
            f"{pair['a']['method']} - {pair['b']['method']}",
            pair["dataset"],
            f"{pair['difference']:+.1f}",
            f"[{pair['ci95'][0]:+.1f}, {pair['ci95'][1]:+.1f}]",
            f"{pair['p_mcnemar']:.2g}",
            f"{pair['p_holm']:.2g}",
            str(pair["wrong_to_right"]),
            str(pair["right_to_wrong"]),
            str(pair["n"]),
            ", ".join(pair["row_differences"]) or "method only",
        ]
        for pair in found
    ]
    return Grid("pairs on the same samples (percentage points)", header, lines)


def published(tables: Sequence[Table]) -> list[Grid]:
    """Published tables as printed, with the averages that follow from their cells beside."""
    grids = []
    for table in tables:
        columns = [SHORT_NAMES.get(name, name) for name in table.columns]
        header = ["method", "backbone", *columns]
        for name in table.averages:
            header += [f"{name.replace('_', ' ')}, printed", "from the cells"]
        lines = []
        for row in table.rows:
            line = [row.method + (LABELS_USED if row.labelled_data else ""), row.backbone]
            line += [_percent(row.cells.get(name)) for name in table.columns]
            for name in table.averages:
                mark = " ≠" if name in row.disagreements() else ""
                line += [_percent(row.printed[name]), _percent(row.recomputed[name]) + mark]
            lines.append(line)
        grids.append(Grid(f"published: {table.title}", header, lines))
    return grids


def beside_published(reference: str, rows: Sequence[Summary]) -> Grid:
    """Each measured number with the published one, and what is not the same about the two."""
    header = ["method", "dataset", "measured", f"published ({reference})", "difference",
              "published with another"]  # fmt: skip
    lines = []
    for row in rows:
        own = row["reference"]
        lines.append(
            [_marked(row), row["dataset"], _percent(row["top1"]), "-", "-", "method not in it"]
            if own is None
            else [
                _marked(row),
                row["dataset"] + (", mean 15" if own["recomputed"] is not None else ""),
                _percent(own["measured"]),
                _percent(own["published"]),
                f"{own['difference']:+.1f}",
                ", ".join(own["differs"]) or "(the same)",
            ]
        )
    return Grid("measured beside published", header, lines)


def result_grids(rows: Sequence[Summary]) -> list[Grid]:
    """Overview and groups of every dataset in the rows."""
    grids = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        grids += [overview(dataset, own), by_group(dataset, own)]
    return [grid for grid in grids if grid is not None]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
