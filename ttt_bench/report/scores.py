"""The table of the metrics that the other tables do not show."""

from collections.abc import Mapping, Sequence
from typing import Any

from ttt_bench.report.grid import Grid
from ttt_bench.report.notes import Summary, marked_name, shown_backbone
from ttt_bench.report.tables import headings


def score_table(rows: Sequence[Summary]) -> Grid:
    """Return a column for each metric that gives a number, several for one that gives several."""
    metrics = headings("others")
    scores = [
        _numbers({heading: row.get(name) for name, heading in metrics.items()}) for row in rows
    ]
    columns = list(dict.fromkeys(name for numbers in scores for name in numbers))
    lines = [
        [marked_name(row), shown_backbone(row), row["dataset"]]
        + [f"{numbers[name]:.4g}" if name in numbers else "-" for name in columns]
        for row, numbers in zip(rows, scores, strict=True)
    ]
    return Grid(
        "other metrics", ["method", "backbone", "dataset", *columns], lines, labels=3, named=True
    )


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, score in scores.items():
        if isinstance(score, int | float):
            numbers[name] = score
        elif isinstance(score, Mapping):
            numbers |= {f"{name}, {part}": value for part, value in _numbers(score).items()}
    return numbers
