"""Rendering of tables: for a terminal, and as Markdown, LaTeX and HTML."""

import html
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ttt_bench.api.text import plain
from ttt_bench.report.grid import Grid
from ttt_bench.report.layout import GAP, lay_out

WITHOUT_TERMINAL = 200
Style = Literal["text", "markdown", "latex", "html"]


def show(
    grids: Sequence[Grid], style: Style, notes: Sequence[str], findings: Sequence[str] = ()
) -> None:
    """Print grids to standard output, see `rendered`."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # A pipe or a file has no width to fit.
        console = Console(width=WITHOUT_TERMINAL)
    if style == "text":
        _print(console, grids, notes, findings)
    else:
        print(rendered(grids, style, notes))


def rendered(
    grids: Sequence[Grid],
    style: Style,
    notes: Sequence[str],
    findings: Sequence[str] = (),
    caption: str = "",
    label: str = "",
    width: int = WITHOUT_TERMINAL,
) -> str:
    """Return grids as text in a format.

    Args:
        grids: the tables.
        style: the format.
        notes: what a reader of the tables has to know, after them.
        findings: what the tables show, in sentences; the text alone has them, before the notes.
        caption: the caption of a LaTeX table, "" for its title.
        label: the label of a LaTeX table, "" for none.
        width: the number of characters that a line of text may have.
    """
    if style == "text":
        file = io.StringIO()
        # In a notebook rich would print to the cell instead, and with colours.
        console = Console(file=file, width=width, force_jupyter=False, force_terminal=False)
        _print(console, grids, notes, findings)
        return file.getvalue().rstrip("\n")
    plain_grids = [_plain_grid(grid) for grid in grids]
    if style == "latex":
        parts = [latex(grid, plain(caption), plain(label)) for grid in plain_grids]
    else:
        parts = [(markdown if style == "markdown" else html_table)(grid) for grid in plain_grids]
    after: dict[str, Callable[[str], str]] = {
        "markdown": markdown_text,
        "latex": lambda note: f"% {note}",
        "html": lambda note: f"<p>{html.escape(note)}</p>",
    }
    return "\n\n".join([*parts, *(after[style](plain(note)) for note in notes)])


def _plain_grid(grid: Grid) -> Grid:
    rows = [[plain(cell) for cell in line] for line in grid.rows]
    header = [plain(name) for name in grid.header]
    return replace(grid, title=plain(grid.title), header=header, rows=rows)


def _print(
    console: Console, grids: Sequence[Grid], notes: Sequence[str], findings: Sequence[str]
) -> None:
    for grid in grids:
        _print_grid(console, _plain_grid(grid))
    for number, sentence in enumerate(findings):
        _print_text(console, Text(plain(sentence)), indent=2 if number else 0)
    if findings:
        console.print()
    for note in notes:
        _print_text(console, Text(plain(note), "dim"))


def _print_text(console: Console, text: Text, indent: int = 0) -> None:
    for line in text.wrap(console, console.width - indent):
        line.rstrip()
        console.print(Text(" " * indent) + line)


def _print_grid(console: Console, grid: Grid) -> None:
    layout = lay_out(grid, console.width)
    for number, (block, widths) in enumerate(zip(layout.blocks, layout.widths, strict=True)):
        _print_text(console, Text(block.title, "bold"))
        if layout.above and number == 0:
            _print_text(console, Text(layout.above, "dim"))
        table = Table(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0)
        )
        for column, (name, width) in enumerate(zip(block.header, widths, strict=True)):
            justify = "right" if column else "left"
            # In a `Text` no name is taken for rich's markup.
            table.add_column(Text(name), justify=justify, overflow="fold", width=width)
        for row, line in enumerate(block.rows):
            styles = ["bold" if (row, column) in block.best else "" for column in range(len(line))]
            table.add_row(*map(Text, line, styles))
        console.print(table)
        console.print()
    for line in layout.below:
        _print_text(console, Text(line, "dim"))
    if layout.below:
        console.print()


def _marked(grid: Grid, safe: Callable[[str], str], bold: Callable[[str], str]) -> list[list[str]]:
    """Return the cells made safe for a format, the best of them bold."""
    return [
        [
            bold(safe(cell)) if (row, column) in grid.best else safe(cell)
            for column, cell in enumerate(line)
        ]
        for row, line in enumerate(grid.rows)
    ]


def markdown(grid: Grid) -> str:
    """Return a table of pipes under a bold title."""
    rule = ["---", *("---:" for _ in grid.header[1:])]
    header = [markdown_text(name) for name in grid.header]
    lines = _marked(grid, markdown_text, lambda cell: f"**{cell}**")
    body = "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])
    return f"**{markdown_text(grid.title)}**\n\n{body}"


def markdown_text(text: str) -> str:
    """Escape text for Markdown, so that it ends no cell, opens no HTML, and makes no link."""
    text = re.sub(r"([\\`|*]|(?<=\])[(\[:])", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;")


def latex(grid: Grid, caption: str = "", label: str = "") -> str:
    """Return a `tabular` with the rules of booktabs.

    Args:
        grid: the table.
        caption: the caption, "" for the table's title.
        label: the label, "" for none.
    """
    header = " & ".join(map(_tex, grid.header))
    lines = _marked(grid, _tex, lambda cell: rf"\textbf{{{cell}}}")
    named = [rf"\label{{{label}}}"] if label else []
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(caption or grid.title)}}}",
            *named,
            rf"\begin{{tabular}}{{l{'r' * (len(grid.header) - 1)}}}",
            r"\toprule",
            rf"{header} \\",
            r"\midrule",
            # After a line's end a bracket or a star would be taken for its argument.
            *(rf"{'{}' if line[0][:1] in '[*' else ''}{' & '.join(line)} \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _tex(text: str) -> str:
    special = {c: f"\\{c}" for c in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {
        "†": r"$^\dagger$",
        "‡": r"$^\ddagger$",
        "§": r"$^\S$",
        "¶": r"$^\P$",
        "≠": r"$\neq$",
        "±": r"$\pm$",
    }
    special |= {"<": r"\textless{}", ">": r"\textgreater{}"}
    return "".join(special.get(character, character) for character in text)


def html_table(grid: Grid) -> str:
    """Return a `table` element with a caption, everything in it escaped."""
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
