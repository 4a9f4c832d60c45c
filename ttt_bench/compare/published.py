"""The published number beside each measured one, and why the two may not be compared."""

from collections.abc import Mapping, Sequence
from typing import Any

from ttt_bench.api.reference import Row, Table

# What the papers call the backbones that are typed here.
PRINTED_BACKBONES = {
    "open_clip:ViT-B-16/openai": "ViT-B/16",
    "open_clip:ViT-L-14/openai": "ViT-L/14",
    "open_clip:ViT-L-14/laion2b_s32b_b82k": "OpenCLIP ViT-L/14",
    "open_clip:ViT-H-14/laion2b_s32b_b79k": "OpenCLIP ViT-H/14",
    "mae:vit-large": "MAE ViT-L",
}


def match_published(row: Mapping[str, Any], tables: Sequence[Table]) -> dict[str, Any] | None:
    """The published number for a measured row, None where the tables have none of its method.

    A row of a corruption set stands beside the mean over the 15 corruptions, any other beside its
    dataset's cell. A row with the same backbone is preferred; what is not the same is listed in
    `differs`, and `same_protocol` says whether anything is.
    """
    found = [_match(row, table, own) for table in tables for own in table.rows]
    fitting = [one for one in found if one is not None]
    return min(fitting, key=lambda one: len(one["differs"]), default=None)


def _match(row: Mapping[str, Any], table: Table, own: Row) -> dict[str, Any] | None:
    if own.method.replace("+", "-") != row["method"]:
        return None
    recomputed = None
    if row["dataset"] in own.cells:
        measured, published, dataset = row["top1"], own.cells[row["dataset"]], row["dataset"]
    elif table.dataset and row["mean_corruption"] is not None:
        dataset = f"{table.dataset}:@{table.severity}"
        measured, published = row["mean_corruption"], own.printed["average"]
        recomputed = own.recomputed["average"]
    else:
        return None
    samples = table.samples.get(table.dataset or dataset)
    n = row["n"] // len(row["groups"]) if row["groups"] else row["n"]
    backbone = PRINTED_BACKBONES.get(row["backbone"], row["backbone"])
    theirs = {"dataset": dataset, "backbone": own.backbone, "n": samples}
    mine = {"dataset": row["dataset"], "backbone": backbone, "n": n}
    differs = [f"{name} {theirs[name]}" for name in theirs if theirs[name] != mine[name]]
    return {
        "table": table.name,
        "method": own.method,
        "backbone": own.backbone,
        "dataset": dataset,
        "labelled_data": own.labelled_data,
        "published": published,
        "recomputed": recomputed,
        "measured": measured,
        "difference": measured - published,
        "same_protocol": not differs,
        "differs": differs,
    }
