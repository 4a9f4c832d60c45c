"""Printing tables: for a terminal, and as Markdown, LaTeX, CSV and HTML."""

import csv
import html
import io
from collections.abc import Callable, Sequence
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ttt_bench.report.tables import Grid

Style = Literal["text", "markdown", "latex", "csv", "html"]


def show(grids: Sequence[Grid], style: Style, said: Sequence[str]) -> None:
    """Print grids to standard output, then the notes that say how to read them."""
    if style == "text":
        _print(grids, said)
        return
    renderers: dict[Style, Callable[[Grid], str]] = {
        "markdown": markdown,
        "latex": latex,
        "csv": comma_separated,
        "html": html_table,
    }
    after: dict[Style, Callable[[str], str]] = {
        "markdown": str,
        "latex": lambda note: f"% {note}",
        "csv": lambda note: f"# {note}",
        "html": lambda note: f"<p>{html.escape(note)}</p>",
    }
    print("\n\n".join([*map(renderers[style], grids), *map(after[style], said)]))


def _print(grids: Sequence[Grid], said: Sequence[str]) -> None:
    console = Console()
    if not console.is_terminal:
        # A pipe or a file has no width to fit; cut-off numbers would be worse than long lines.
        console = Console(width=200)
    for grid in grids:
        table = Table(title=grid.title, title_justify="left", title_style="bold")
        for place, name in enumerate(grid.header):
            table.add_column(name, justify="right" if place else "left", overflow="fold")
        for line in _marked(grid, escape, lambda cell: f"[bold]{cell}[/bold]"):
            table.add_row(*line)
        console.print(table)
    for note in said:
        console.print(note, style="dim", highlight=False, markup=False)


def _marked(grid: Grid, plain: Callable[[str], str], bold: Callable[[str], str]) -> list[list[str]]:
    """The cells made safe for a format, the best of them bold."""
    return [
        [
            bold(plain(cell)) if (row, column) in grid.best else plain(cell)
            for column, cell in enumerate(line)
        ]
        for row, line in enumerate(grid.rows)
    ]


def markdown(grid: Grid) -> str:
    """A table of pipes under a bold title."""
    rule = ["---", *("---:" for _ in grid.header[1:])]
    lines = _marked(grid, lambda cell: cell.replace("|", "\\|"), lambda cell: f"**{cell}**")
    body = "\n".join("| " + " | ".join(line) + " |" for line in [grid.header, rule, *lines])
    return f"**{grid.title}**\n\n{body}"


def latex(grid: Grid) -> str:
    """A `tabular` with the rules of booktabs, its title as the caption."""
    header = " & ".join(map(_tex, grid.header))
    lines = _marked(grid, _tex, lambda cell: rf"\textbf{{{cell}}}")
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_tex(grid.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(grid.header) - 1)}}}",
            r"\toprule",
            rf"{header} \\",
            r"\midrule",
            *(rf"{' & '.join(line)} \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _tex(text: str) -> str:
    special = {c: f"\\{c}" for c in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"†": r"$^\dagger$", "<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(character, character) for character in text)


def comma_separated(grid: Grid) -> str:
    """The header and the rows, under the title as a comment."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([grid.header, *grid.rows])
    return f"# {grid.title}\n{file.getvalue().rstrip()}"


def html_table(grid: Grid) -> str:
    """A `table` element with a caption; everything in it is escaped."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in grid.header)
    lines = _marked(grid, html.escape, lambda cell: f"<b>{cell}</b>")
    body = "\n".join(
        "<tr>"
        + f'<th scope="row">{line[0]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in line[1:])
        + "</tr>"
        for line in lines
    )
    caption = f"<caption>{html.escape(grid.title)}</caption>"
    return (
        f"<table>\n{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    )
