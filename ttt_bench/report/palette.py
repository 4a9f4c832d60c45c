"""Colours and markers of rows in figures, told apart by readers who are colour-blind too."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from ttt_bench.api.text import plain
from ttt_bench.compare.rows import Row

# Makes an empty figure of a width and a height in inches.
NewFigure = Callable[..., Figure]
# Okabe and Ito 2008, "Color universal design", without black and with yellow last.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b59f00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# The id of what shows a text under the pointer begins so; the page turns it into a title.
TITLE = "title:"


def colours(count: int) -> list[str]:
    """Return a colour for each row; they repeat after seven."""
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def markers(count: int) -> list[str]:
    """Return a marker for each row: another one where the colours repeat."""
    return [MARKERS[(number + number // len(COLOURS)) % len(MARKERS)] for number in range(count)]


def figure_labels(rows: Sequence[Row]) -> list[str]:
    """Return the rows' labels as matplotlib draws them: a dollar would begin a formula."""
    return [in_figure(row.label) for row in rows]


def in_figure(text: str) -> str:
    """Return text as matplotlib draws it."""
    return plain(text).replace("$", r"\$")


def titled(artist: Any, text: str) -> None:
    """Show a text while the pointer is on a part of a figure."""
    artist.set_gid(f"{TITLE}{plain(text)}")


def legend(figure: Figure, axis: Any, count: int) -> None:
    """Put the legend of an axis below the figure."""
    handles, labels = axis.get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    columns = max(1, min(4, count, 90 // (longest + 6)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7)
