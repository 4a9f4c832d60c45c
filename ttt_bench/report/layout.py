"""Layout of tables for a terminal: no line is longer than its width, and no word is broken."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from rich.cells import cell_len

from ttt_bench.report.grid import Grid, Part

GAP = 2
# Longer cells may take several lines.
LONGEST_CELL = 24
# Longer tables go without their optional parts.
LONG_TABLE = 20
# Columns that describe a row. Where all rows have the same, it may stand above the table instead.
DESCRIBING = ("backbone", "dataset", "n")


@dataclass(frozen=True)
class Layout:
    """A table as it stands in a terminal.

    Attributes:
        blocks: the table, or pieces of it that stand one below the other.
        widths: the widths of the columns of each block.
        above: what stands between the title and the first block.
        below: the lines after the last block.
    """

    blocks: list[Grid]
    widths: list[list[int]]
    above: str = ""
    below: tuple[str, ...] = ()


def lay_out(grid: Grid, width: int) -> Layout:
    """Return a table as it fits a terminal.

    A table that fits stays as it is. Otherwise values that all rows share stand above it, and a
    long table goes without optional columns. If it is still too wide, it is cut into blocks of
    columns. It is turned, or its labels are numbered, where that takes fewer blocks.

    Args:
        grid: the table.
        width: of the terminal, in characters.
    """
    if _narrowest(grid, whole_cells=True) <= width:
        return _layout([grid], width)
    grid, above = _without_shared(grid)
    if grid.named and len({line[0] for line in grid.rows}) == len(grid.rows):
        kept = [0, *range(grid.labels, len(grid.header))]
        grid = _chosen(grid, kept, grid.title)
    grid, below = _without_optional(grid, width)
    candidates = []
    for numbered in range(grid.labels + 1):
        named, legend = _numbered(grid, numbered)
        for shape in [named, _turned(named)] if grid.turns else [named]:
            blocks = _blocks(shape, width)
            too_wide = sum(_narrowest(block) > width for block in blocks)
            lines = sum(len(block.rows) for block in blocks)
            # A row without its name is a last resort.
            nameless = numbered == grid.labels
            rank = (too_wide, nameless, len(blocks), numbered, lines)
            candidates.append((rank, blocks, legend))
    _, blocks, legend = min(candidates, key=lambda candidate: candidate[0])
    return replace(_layout(blocks, width), above=above, below=(*below, *legend))


def _layout(blocks: list[Grid], width: int) -> Layout:
    return Layout(blocks, [_widths(block, width) for block in blocks])


def _words(text: str) -> int:
    """Return the width of the longest word."""
    return max(map(cell_len, text.split()), default=0)


def _narrow(grid: Grid, whole_cells: bool = False) -> list[int]:
    """Return the smallest width of each column.

    Args:
        grid: the table.
        whole_cells: whether every cell stands in one line; otherwise long ones take several.
    """
    least = [_words(name) for name in grid.header]
    for line in grid.rows:
        for column, cell in enumerate(line):
            needed = cell_len(cell)
            if column >= grid.labels and needed > LONGEST_CELL and not whole_cells:
                needed = max(LONGEST_CELL, _words(cell))
            least[column] = max(least[column], needed)
    return least


def _narrowest(grid: Grid, whole_cells: bool = False) -> int:
    return sum(_narrow(grid, whole_cells)) + GAP * (len(grid.header) - 1)


def _widths(grid: Grid, width: int) -> list[int]:
    """Return the widths of the columns, as wide as their cells and headings where there is room."""
    widths = _narrow(grid)
    left = width - sum(widths) - GAP * (len(widths) - 1)
    for column, cells in enumerate(zip(grid.header, *grid.rows, strict=True)):
        more = min(max(map(cell_len, cells)) - widths[column], left)
        if more > 0:
            widths[column] += more
            left -= more
    return widths


def _chosen(grid: Grid, columns: Sequence[int], title: str) -> Grid:
    """Return a table of some of the columns."""
    return replace(
        grid,
        title=title,
        header=[grid.header[column] for column in columns],
        rows=[[line[column] for column in columns] for line in grid.rows],
        best=frozenset(
            (row, columns.index(column)) for row, column in grid.best if column in columns
        ),
        labels=sum(column < grid.labels for column in columns),
        parts=tuple(
            Part(part.name, columns.index(part.start), part.optional)
            for part in grid.parts
            if part.start in columns
        ),
    )


def _without_shared(grid: Grid) -> tuple[Grid, str]:
    """Take out the describing columns in which all rows have the same, and say what it is."""
    shared = {
        column: grid.rows[0][column]
        for column, name in enumerate(grid.header)
        if column and name in DESCRIBING and len({line[column] for line in grid.rows}) == 1
    }
    columns = [column for column in range(len(grid.header)) if column not in shared]
    values = ", ".join(f"{grid.header[column]} {value}" for column, value in shared.items())
    above = f"Same for all: {values}" if values and len(grid.rows) > 1 else values
    return _chosen(grid, columns, grid.title), above


def _without_optional(grid: Grid, width: int) -> tuple[Grid, list[str]]:
    """Leave out the last columns of optional parts, until a long table fits."""
    columns = list(range(len(grid.header)))
    first = min((part.start for part in grid.parts if part.optional), default=len(columns))
    if len(grid.rows) <= LONG_TABLE:
        return grid, []
    kept = grid
    while len(columns) > first and _narrowest(kept) > width:
        columns.pop()
        kept = _chosen(grid, columns, grid.title)
    left_out = ", ".join(grid.header[len(columns) :])
    return kept, [f"Columns left out for the width: {left_out}."] if left_out else []


def _blocks(grid: Grid, width: int) -> list[Grid]:
    """Cut a table into blocks of columns that fit, each with the columns that name the rows."""
    if _narrowest(grid) <= width:
        return [grid]
    blocks = []
    for name, part in _parts_that_fit(grid, width):
        title = f"{grid.title}, {name}" if name else grid.title
        pieces = _cut(_narrow(grid), grid.labels, part, width)
        for number, columns in enumerate(pieces):
            heading = f"{title} (continued)" if number else title
            blocks.append(_chosen(grid, [*range(grid.labels), *columns], heading))
    return blocks


def _parts_that_fit(grid: Grid, width: int) -> list[tuple[str, range]]:
    """Return the parts of a table by name, neighbours joined where they fit together."""
    names = ["", *(part.name for part in grid.parts)]
    starts = [grid.labels, *(part.start for part in grid.parts), len(grid.header)]
    joined: list[tuple[str, range]] = []
    for name, (start, end) in zip(names, pairwise(starts), strict=True):
        together = range(joined[-1][1].start if joined else start, end)
        columns = [*range(grid.labels), *together]
        if joined and _narrowest(_chosen(grid, columns, grid.title)) <= width:
            joined[-1] = (f"{joined[-1][0]}, {name}" if joined[-1][0] else ""), together
        else:
            joined.append((name, range(start, end)))
    return joined


def _cut(widths: Sequence[int], labels: int, columns: Sequence[int], width: int) -> list[list[int]]:
    """Cut columns into as few pieces as fit, of about the same width."""
    beside_labels = width - sum(widths[:labels]) - GAP * labels
    fewest = _greedy(widths, columns, beside_labels)
    for limit in range(max((widths[column] for column in columns), default=0), beside_labels):
        pieces = _greedy(widths, columns, limit)
        if len(pieces) == len(fewest):
            return pieces
    return fewest


def _greedy(widths: Sequence[int], columns: Sequence[int], limit: int) -> list[list[int]]:
    pieces: list[list[int]] = []
    room = 0
    for column in columns:
        room -= widths[column] + GAP
        if not pieces or room < 0:
            pieces.append([])
            room = limit - widths[column]
        pieces[-1].append(column)
    return pieces


def _numbered(grid: Grid, count: int) -> tuple[Grid, list[str]]:
    """Number the values of the last `count` columns of labels, and return the legend."""
    rows = [list(line) for line in grid.rows]
    numbers: dict[str, str] = {}
    for column in range(grid.labels - count, grid.labels):
        for line in rows:
            line[column] = numbers.setdefault(line[column], f"[{len(numbers) + 1}]")
    return replace(grid, rows=rows), [f"{number} {value}" for value, number in numbers.items()]


def _turned(grid: Grid) -> Grid:
    """Return a table with a row for each column of numbers, and a column for each row."""
    assert grid.turns is not None
    header = [grid.turns, *(" ".join(line[: grid.labels]) for line in grid.rows)]
    rows = [
        [name, *(line[column] for line in grid.rows)]
        for column, name in enumerate(grid.header)
        if column >= grid.labels
    ]
    best = frozenset((column - grid.labels, row + 1) for row, column in grid.best)
    return Grid(grid.title, header, rows, best)
