"""Published numbers of CLIP's test-time methods, each with the place where it is listed.

The releases give none for ViT-B/16 on ImageNet and its variants. Those here are second-hand: other
papers' tables list them. TDA's, DMN's and WATT's are their authors' own, from the releases'
READMEs. A cell without a source is empty.
"""

import csv
from pathlib import Path

from ttt_bench import Publication, Row, Table

FILE = Path(__file__).with_name("numbers.csv")
SHIFTS = "ImageNet and its variants"
TEN = "mean of the ten fine-grained datasets"
# Title and source by the name of the table.
TABLES = {
    "m2tpt-2": (SHIFTS, "second-hand: M2TPT, Echoes of the Visual Past, table 2"),
    "dota-2": (SHIFTS, "second-hand: Dota, table 2"),
    "m2tpt-1": (TEN, "second-hand: M2TPT, Echoes of the Visual Past, table 1"),
    "dota-1": (TEN, "second-hand: Dota, table 1"),
    "tda-readme": (SHIFTS, "own: README of kdiAAA/TDA"),
    "dmn-readme": (SHIFTS, "own: README of YBZh/DMN"),
    "watt-readme": (
        "CIFAR-100-C at severity 5, mean of 15 corruptions",
        "own: README of Mehrdad-Noori/WATT",
    ),
}
BACKBONES = {
    "ViT-B/16": "open_clip:ViT-B-16/openai",
    "ViT-B/32": "open_clip:ViT-B-32/openai",
    "RN50": "open_clip:RN50/openai",
}
COLUMNS = (
    "imagenet",
    "imagenet-a",
    "imagenet-v2",
    "imagenet-r",
    "imagenet-sketch",
    "mean of ten",
    "cifar100-c",
)
SAMPLES = {
    "imagenet": 50_000,
    "imagenet-a": 7_500,
    "imagenet-v2": 10_000,
    "imagenet-r": 30_000,
    "imagenet-sketch": 50_889,
}


def publication() -> Publication:
    """Return the tables; a row is marked where the number was chosen on the test labels."""
    with FILE.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    tables = []
    for name, (title, source) in TABLES.items():
        rows = tuple(_row(line) for line in lines if line["table"] == name)
        columns = tuple(c for c in COLUMNS if any(c in row.cells for row in rows))
        tables.append(
            Table(
                name=name,
                title=title,
                columns=columns,
                rows=rows,
                averages={},
                samples=SAMPLES,
                source=source,
            )
        )
    return Publication(tables=tuple(tables))


def _row(line: dict[str, str]) -> Row:
    return Row(
        method=line["method"],
        backbone=BACKBONES[line["printed_backbone"]],
        printed_method=line["printed_method"],
        printed_backbone=line["printed_backbone"],
        labelled_data=line["labels_used"] == "yes",
        cells={column: float(line[column]) for column in COLUMNS if line[column]},
        printed={},
        recomputed={},
    )
