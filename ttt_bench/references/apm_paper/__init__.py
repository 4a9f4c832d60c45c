"""The tables of the APM paper and its poster (Modi and Rawat, NeurIPS 2024, arXiv 2410.20535)."""

import csv
from pathlib import Path

from ttt_bench.api.reference import PrintedNames, Publication, Table, read_table

HERE = Path(__file__).parent
NATURAL = {
    "imagenet": 50_000,
    "imagenet-a": 7_500,
    "imagenet-v2": 10_000,
    "imagenet-r": 30_000,
    "imagenet-sketch": 50_889,
}
CROSS = {
    "flowers102": 2_463,
    "dtd": 1_692,
    "oxford-pets": 3_669,
    "ucf101": 3_783,
    "caltech101": 2_465,
    "food101": 30_300,
    "sun397": 19_850,
    "fgvc-aircraft": 3_333,
    "eurosat": 8_100,
}
NAMES = PrintedNames(
    methods={"tpt+coop": "tpt-coop", "tpt+cocoop": "tpt-cocoop"},
    backbones={
        "ViT-B/16": "open_clip:ViT-B-16/openai",
        "ViT-L/14": "open_clip:ViT-L-14/openai",
        "OpenCLIP ViT-L/14": "open_clip:ViT-L-14/laion2b_s32b_b82k",
        "OpenCLIP ViT-H/14": "open_clip:ViT-H-14/laion2b_s32b_b79k",
        "MAE ViT-L": "mae:vit-large",
    },
)


def tables() -> list[Table]:
    """Return the tables of accuracies in percent, every cell and average as printed."""
    everything: frozenset[str] = frozenset()
    return [
        read_table(
            HERE / "imagenet_c_severity5.csv",
            "ImageNet-C at severity 5",
            {"average": everything},
            {"imagenet-c": 50_000},
            NAMES,
            dataset="imagenet-c",
            severity=5,
        ),
        read_table(
            HERE / "natural_shift.csv",
            "ImageNet and its variants",
            {"average": everything, "ood_average": frozenset({"imagenet"})},
            NATURAL,
            NAMES,
        ),
        read_table(
            HERE / "cross_dataset.csv",
            "fine-grained datasets",
            {"average": everything},
            CROSS,
            NAMES,
        ),
    ]


def costs() -> list[dict[str, str]]:
    """Return the cost table as printed: (u) is the teacher's share, (s) the student's.

    A multiply-add counts as one operation there, and as two in what ttt-bench measures.
    """
    with (HERE / "cost.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def publication() -> Publication:
    """Return the paper's tables of accuracies and costs."""
    return Publication(tables=tuple(tables()), costs=tuple(costs()))
