"""Grid: a table as strings, which every format prints."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """Columns of a table that stay together where a terminal is too narrow for all of them.

    Attributes:
        name: what they show.
        start: the first of them; they end where the next part starts.
        optional: whether a long table goes without them there.
    """

    name: str
    start: int
    optional: bool = False


@dataclass(frozen=True)
class Grid:
    """A table as strings; the first column is left-aligned.

    All but the first four attributes say how a terminal that is too narrow shows the table.

    Attributes:
        title: the heading over the table.
        header: the headings of the columns.
        rows: the cells of each row.
        best: (row, column) of the cells that are the best of their column.
        labels: the number of columns, from the left, that name a row.
        parts: the parts that follow the first one, in the order of their columns.
        turns: what a column is, such as "group", if columns may become rows; else None.
        named: whether another table says the backbone and the dataset of each row.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    best: frozenset[tuple[int, int]] = frozenset()
    labels: int = 1
    parts: tuple[Part, ...] = ()
    turns: str | None = None
    named: bool = False


def best_cells(
    values: Sequence[Sequence[float | None]], first_column: int
) -> frozenset[tuple[int, int]]:
    """Return the cell with the highest value of each column as printed.

    A table of one row has none, and a column in which several cells share the highest value.

    Args:
        values: the numbers of each row, None for an empty cell.
        first_column: the column of the table in which the first of them stands.
    """
    best: set[tuple[int, int]] = set()
    for column, cells in enumerate(zip(*values, strict=True)):
        known = {row: round(cell, 1) for row, cell in enumerate(cells) if cell is not None}
        highest = [row for row, cell in known.items() if cell == max(known.values())]
        if len(values) > 1 and len(highest) == 1:
            best.add((highest[0], first_column + column))
    return frozenset(best)


def three_digits(value: float) -> str:
    """Return a number in three digits, one that rounds to a thousand or more as a whole number."""
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Return a number with one decimal, "-" for None."""
    return "-" if value is None else f"{value:.1f}"
