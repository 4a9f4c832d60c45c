"""Tables of the metrics that the other tables do not show."""

from collections.abc import Mapping, Sequence

from ttt_bench.compare.selection import number_of
from ttt_bench.report.grid import Grid
from ttt_bench.report.notes import Summary, marked_name, shown_backbone
from ttt_bench.report.tables import headings


def score_tables(rows: Sequence[Summary]) -> list[Grid]:
    """Return a table of the metrics that give one number, and one for each that gives several."""
    metrics = headings("others")
    single = [name for name in metrics if any(number_of(row, name) is not None for row in rows)]
    numbers = {metrics[name]: [row.get(name) for row in rows] for name in single}
    grids = [_grid("other metrics", numbers, rows)]
    for name, heading in metrics.items():
        values = [row.get(name) for row in rows]
        named = [value for value in values if isinstance(value, Mapping)]
        parts = list(dict.fromkeys(part for value in named for part in value))
        if parts:
            columns = {
                part: [value.get(part) if isinstance(value, Mapping) else None for value in values]
                for part in parts
            }
            grids.append(_grid(heading, columns, rows, turns="group"))
    return grids


def _grid(
    title: str,
    columns: Mapping[str, Sequence[object]],
    rows: Sequence[Summary],
    turns: str | None = None,
) -> Grid:
    lines = [
        [marked_name(row), shown_backbone(row), row["column"]]
        + [_number(values[place]) for values in columns.values()]
        for place, row in enumerate(rows)
    ]
    header = ["method", "backbone", "dataset", *columns]
    return Grid(title, header, lines, labels=3, turns=turns, named=True)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"
