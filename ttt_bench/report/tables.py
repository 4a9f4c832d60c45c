"""Tables of runs, as text for a terminal or as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from ttt_bench.datasets.corruptions import SHORT_NAMES

Style = Literal["text", "markdown"]
Summary = Mapping[str, Any]

COUNTING = (
    "oracle top-1 counts a sample as right if any step was: it peeks at the labels and is an upper "
    "bound, not a result. GFLOPs per sample are forward and backward of teacher and student, two "
    "per multiply-add. Memory is the peak of live tensors for one sample, weights included."
)

LABELS_USED = "†"


def notes(rows: Sequence[Summary]) -> list[str]:
    """What a reader of these rows has to know."""
    learned = {row["method"]: row["labelled_data"] for row in rows if row["labelled_data"]}
    said = [f"{LABELS_USED} {method}: {data}." for method, data in learned.items()]
    return [*said, COUNTING]


@dataclass(frozen=True)
class Grid:
    """A table as strings: a title, column names, rows; the first column is left-aligned."""

    title: str
    header: list[str]
    rows: list[list[str]]


def overview(dataset: str, rows: Sequence[Summary]) -> Grid:
    """Accuracy and cost of the runs of one dataset."""
    header = ["method", "backbone", "n", "top-1 %", "top-5 %", "oracle top-1 %", "GFLOPs",
              "memory MB", "ms/sample", "params updated"]  # fmt: skip
    return Grid(dataset, header, [[*_names(row), *_figures(row)] for row in rows])


def _names(row: Summary) -> list[str]:
    return [_marked(row), row["backbone"], str(row["n"])]


def _marked(row: Summary) -> str:
    return row["method"] + (LABELS_USED if row["labelled_data"] else "")


def _figures(row: Summary) -> list[str]:
    top1 = f"{row['top1']:.1f}"
    if "ci95" in row:
        low, high = row["ci95"]
        top1 += f" [{low:.1f}, {high:.1f}]"
    cost = row["cost"]
    return [
        top1,
        f"{row['top5']:.1f}",
        f"{row['oracle_top1']:.1f}",
        f"{cost['gflops_per_sample']:.3g}",
        f"{cost['peak_memory_mb']:.1f}",
        f"{cost['ms_per_sample']:.1f}",
        f"{cost['parameters_updated']:,}",
    ]


def by_group(dataset: str, rows: Sequence[Summary]) -> Grid | None:
    """Top-1 of each corruption or domain; None where there are no groups.

    Corruptions stand as the papers print them: a column each, a row for every run, then the mean of
    all fifteen. Other groups are lines, and the runs columns.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["groups"]))
    if not names:
        return None
    corruptions = [c for c in SHORT_NAMES if any(c in row["corruptions"] for row in rows)]
    if corruptions:
        others = [name for name in names if name.partition("@")[0] not in SHORT_NAMES]
        lines = [
            [
                _marked(row),
                row["backbone"],
                *(_percent(row["groups"].get(name)) for name in others),
                *(_percent(row["corruptions"].get(name)) for name in corruptions),
                _percent(row["mean_corruption"]),
            ]
            for row in rows
        ]
        short = [SHORT_NAMES[name] for name in corruptions]
        header = ["method", "backbone", *others, *short, f"mean {len(SHORT_NAMES)}"]
        return Grid(f"{dataset}, top-1 % by corruption", header, lines)
    lines = [[name, *(_percent(row["groups"].get(name)) for row in rows)] for name in names]
    return Grid(f"{dataset}, top-1 % by group", ["group", *map(_marked, rows)], lines)


def pairs(found: Sequence[Mapping[str, Any]]) -> Grid:
    """Every pair of runs on one column: difference, interval, p."""
    header = [
        "pair",
        "dataset",
        "difference",
        "95 % interval",
        "p (McNemar)",
        "n",
        "rows differ in",
    ]
    lines = [
        [
            f"{pair['a']['method']} - {pair['b']['method']}",
            pair["dataset"],
            f"{pair['difference']:+.1f}",
            f"[{pair['ci95'][0]:+.1f}, {pair['ci95'][1]:+.1f}]",
            f"{pair['p_mcnemar']:.2g}",
            str(pair["n"]),
            ", ".join(pair["row_differences"]) or "method only",
        ]
        for pair in found
    ]
    return Grid("pairs on the same samples (percentage points)", header, lines)


def result_grids(rows: Sequence[Summary]) -> list[Grid]:
    """Overview and groups of every dataset in the rows."""
    grids = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        grids += [overview(dataset, own), by_group(dataset, own)]
    return [grid for grid in grids if grid is not None]


def show(grids: Sequence[Grid], style: Style, said: Sequence[str]) -> None:
    """Print grids to standard output, then the notes that say how to read them."""
    if style == "markdown":
        print("\n\n".join([*map(_markdown, grids), *said]))
        return
    console = Console()
    if not console.is_terminal:
        # A pipe or a file has no width to fit; cut-off numbers would be worse than long lines.
        console = Console(width=200)
    for grid in grids:
        table = Table(title=grid.title, title_justify="left", title_style="bold")
        for place, name in enumerate(grid.header):
            table.add_column(name, justify="right" if place else "left", overflow="fold")
        for row in grid.rows:
            table.add_row(*row)
        console.print(table)
    for note in said:
        console.print(note, style="dim", highlight=False)


def _markdown(grid: Grid) -> str:
    rule = ["---", *("---:" for _ in grid.header[1:])]
    lines = [grid.header, rule, *grid.rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
                     for line in lines)  # fmt: skip
    return f"**{grid.title}**\n\n{body}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
