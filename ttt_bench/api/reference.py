"""Publication: published tables, with the averages that follow from their cells."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

# Cells and average are each printed with one decimal, so each may be 0.05 off.
ROUNDING = 0.1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method of a published table.

    Attributes:
        method: the name under which ttt-bench runs the method.
        backbone: the name under which ttt-bench loads the backbone.
        printed_method: the method as printed.
        printed_backbone: the backbone as printed.
        labelled_data: whether it was trained on the clean labelled training set (the P column).
        cells: the printed number of each column, in percent.
        printed: the averages as printed, by name.
        recomputed: the same averages from the cells.
    """

    method: str
    backbone: str
    printed_method: str
    printed_backbone: str
    labelled_data: bool
    cells: Mapping[str, float]
    printed: Mapping[str, float]
    recomputed: Mapping[str, float]

    def disagreements(self) -> list[str]:
        """Return the averages whose printed number does not follow from the printed cells."""
        return [
            name
            for name, value in self.printed.items()
            if abs(value - self.recomputed[name]) > ROUNDING + 1e-9
        ]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A published table of accuracies.

    Attributes:
        name: a short name, such as that of its file.
        title: the heading that `compare` prints over it.
        columns: names of datasets, or of corruptions of `dataset`.
        rows: its methods.
        averages: for each average the columns it is over.
        samples: the number of test images of a dataset, where it is known.
        dataset: the dataset whose corruptions the columns are, "" where they are datasets.
        severity: the severity of those corruptions, 0 where there are none.
        source: where the numbers are printed if that is not the methods' own publication, or a word
            on whose they are; "" where the reference's name says it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    averages: Mapping[str, tuple[str, ...]]
    samples: Mapping[str, int]
    dataset: str = ""
    severity: int = 0
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class PrintedNames:
    """The names that a publication prints, each with the name in ttt-bench.

    A name that is missing here is the same in both.

    Attributes:
        methods: names of methods, such as `{"tpt+coop": "tpt-coop"}`.
        backbones: names of backbones, such as `{"ViT-B/16": "open_clip:ViT-B-16/openai"}`.
    """

    methods: Mapping[str, str] = field(default_factory=dict)
    backbones: Mapping[str, str] = field(default_factory=dict)


def read_table(
    path: Path,
    title: str,
    averages: Mapping[str, frozenset[str]],
    samples: Mapping[str, int],
    names: PrintedNames = PrintedNames(),
    dataset: str = "",
    severity: int = 0,
) -> Table:
    """Read a table from a CSV file.

    The file has the columns `method`, `backbone`, `uses_pretrained_on_clean_train_set` (yes or no),
    one for each dataset or corruption, and `printed_NAME` for each average.

    Args:
        path: the file; its stem becomes the table's name.
        title: the heading that `compare` prints over it.
        averages: for each average the columns that it leaves out.
        samples: the number of test images of a dataset, where it is known.
        names: the printed names that differ from those in ttt-bench.
        dataset: the dataset whose corruptions the columns are, "" where they are datasets.
        severity: the severity of those corruptions.
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
        method, backbone = line["method"], line["backbone"]
        rows.append(
            Row(
                method=names.methods.get(method, method),
                backbone=names.backbones.get(backbone, backbone),
                printed_method=method,
                printed_backbone=backbone,
                labelled_data=line["uses_pretrained_on_clean_train_set"] == "yes",
                cells=cells,
                printed={name: float(line[f"printed_{name}"]) for name in averages},
                recomputed={
                    name: fmean(cells[column] for column in averaged if column in cells)
                    for name, averaged in over.items()
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
    """The tables of one publication; a `ReferenceSpec` names a function that returns it.

    Attributes:
        tables: the tables of accuracies.
        costs: a table of costs, a mapping from heading to cell for each row, as printed.
    """

    tables: tuple[Table, ...]
    costs: tuple[Mapping[str, str], ...] = ()
