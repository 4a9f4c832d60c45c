"""Tables of published numbers, alone and beside measured ones."""

from collections.abc import Mapping, Sequence

from ttt_bench.api.reference import Table
from ttt_bench.datasets.corruptions import SHORT_NAMES
from ttt_bench.report.grid import Grid, percent
from ttt_bench.report.notes import LABELS_USED, Summary, marked_name

DISAGREES = "≠"
NOTE = f"{DISAGREES} The printed average does not follow from the printed cells."


def published(tables: Sequence[Table]) -> list[Grid]:
    """Return published tables as printed, with the averages that follow from their cells."""
    grids = []
    for table in tables:
        columns = [SHORT_NAMES.get(name, name) for name in table.columns]
        header = ["method", "backbone", *columns]
        for name in table.averages:
            header += [f"{name.replace('_', ' ')}, printed", "from the cells"]
        lines = []
        for row in table.rows:
            mark = LABELS_USED if row.labelled_data else ""
            line = [row.printed_method + mark, row.printed_backbone]
            line += [percent(row.cells.get(name)) for name in table.columns]
            for name in table.averages:
                mark = f" {DISAGREES}" if name in row.disagreements() else ""
                line += [percent(row.printed[name]), percent(row.recomputed[name]) + mark]
            lines.append(line)
        source = f" ({table.source})" if table.source else ""
        grids.append(
            Grid(f"published: {table.title}{source}", header, lines, labels=2, turns="column")
        )
    return grids


def beside_published(reference: str, rows: Sequence[Summary]) -> Grid:
    """Return each measured number with the published one, and what differs between the two.

    Args:
        reference: the name of the published tables.
        rows: measured rows with the match of `match_published` as `reference`.
    """
    header = ["method", "dataset", "measured", f"published ({reference})", "difference",
              "published with another"]  # fmt: skip
    sources = [match["source"] if (match := row["reference"]) else "" for row in rows]
    lines = []
    for row in rows:
        match = row["reference"]
        lines.append(
            [marked_name(row), row["column"], percent(row["top1"]), "-", "-", "method not in it"]
            if match is None
            else [
                marked_name(row),
                row["column"] + (", mean 15" if match["recomputed"] is not None else ""),
                percent(match["measured"]),
                percent(match["published"]) + (LABELS_USED if match["labelled_data"] else ""),
                f"{match['difference']:+.1f}",
                ", ".join(match["differs"]) or "(the same)",
            ]
        )
    if any(sources):
        header.append("listed in")
        lines = [[*line, source or "-"] for line, source in zip(lines, sources, strict=True)]
    return Grid("measured beside published", header, lines, labels=2)


def published_costs(rows: Sequence[Mapping[str, str]]) -> Grid:
    """Return a published cost table, its cells as printed; a multiply-add counts as one there."""
    return Grid(
        "published: cost (a multiply-add counts as one)",
        [name.replace("_", " ") for name in rows[0]],
        [list(row.values()) for row in rows],
    )
