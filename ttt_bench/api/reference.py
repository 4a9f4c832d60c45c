"""A published table: its cells as printed, and the averages that follow from them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

# Cells and average are each printed with one decimal, so each may be 0.05 off.
ROUNDING = 0.1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method of a published table.

    Attributes:
        labelled_data: whether it was trained on the clean labelled training set (the P column).
        cells: the printed number of each column, in percent.
        printed: the averages as printed, by name.
        recomputed: the same averages from the cells.
    """

    method: str
    backbone: str
    labelled_data: bool
    cells: Mapping[str, float]
    printed: Mapping[str, float]
    recomputed: Mapping[str, float]

    def disagreements(self) -> list[str]:
        """The averages whose printed number does not follow from the printed cells."""
        return [
            name
            for name, value in self.printed.items()
            if abs(value - self.recomputed[name]) > ROUNDING + 1e-9
        ]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A published table of accuracies.

    Attributes:
        columns: names of datasets, or of corruptions of `dataset`.
        dataset: what the columns are corruptions of, "" where they are datasets themselves.
        severity: of those corruptions, 0 where there are none.
        samples: how many test images a column has, where it is known.
        averages: for each average the columns it is over.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    averages: Mapping[str, tuple[str, ...]]
    samples: Mapping[str, int]
    dataset: str = ""
    severity: int = 0


def read_table(
    path: Path,
    title: str,
    averages: Mapping[str, frozenset[str]],
    samples: Mapping[str, int],
    dataset: str = "",
    severity: int = 0,
) -> Table:
    """Read a table from its CSV file.

    Args:
        averages: for each `printed_*` column the cells it leaves out.
    """
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    about = ("method", "backbone", "uses_pretrained_on_clean_train_set")
    columns = tuple(n for n in lines[0] if n not in about and not n.startswith("printed"))
    over = {
        name: tuple(column for column in columns if column not in left_out)
        for name, left_out in averages.items()
    }
    rows = []
    for line in lines:
        cells = {column: float(line[column]) for column in columns if line[column]}
        rows.append(
            Row(
                method=line["method"],
                backbone=line["backbone"],
                labelled_data=line["uses_pretrained_on_clean_train_set"] == "yes",
                cells=cells,
                printed={name: float(line[f"printed_{name}"]) for name in averages},
                recomputed={
                    name: fmean(cells[c] for c in own if c in cells) for name, own in over.items()
                },
            )
        )
    return Table(
        name=path.stem,
        title=title,
        columns=columns,
        rows=tuple(rows),
        averages=over,
        samples=samples,
        dataset=dataset,
        severity=severity,
    )


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What a `ReferenceSpec` names: tables of accuracies, and one of costs, its cells as text."""

    tables: tuple[Table, ...]
    costs: tuple[Mapping[str, str], ...] = ()
