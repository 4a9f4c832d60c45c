"""Published numbers beside measured ones, with the conditions in which the two differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from ttt_bench.api.reference import Row, Table


def match_published(measured: Mapping[str, Any], tables: Sequence[Table]) -> dict[str, Any] | None:
    """Return the published number for a measured row, None where the tables lack its method.

    A row of a corruption set stands beside the mean over the 15 corruptions, any other beside its
    dataset's cell. The published row that differs in the fewest conditions is chosen.

    Args:
        measured: a row as `run --format json` prints it.
        tables: the published tables.

    Returns:
        `published`, `measured`, their `difference` in points, the conditions that the published
        number was measured under and the row was not (`differs`), `same_protocol`, whether
        there are none, and the `source` of the number.
    """
    matches = [_match(measured, table, row) for table in tables for row in table.rows]
    return min(
        (match for match in matches if match is not None),
        key=lambda match: len(match["differs"]),
        default=None,
    )


def _match(measured: Mapping[str, Any], table: Table, row: Row) -> dict[str, Any] | None:
    if row.method != measured["method"]:
        return None
    dataset, recomputed = measured["dataset"], None
    if dataset in row.cells:
        value, published = measured["top1"], row.cells[dataset]
    elif table.dataset and measured.get("mean_corruption") is not None:
        dataset = f"{table.dataset}:@{table.severity}"
        value, published = measured["mean_corruption"], row.printed["average"]
        recomputed = row.recomputed["average"]
    else:
        return None
    groups = measured.get("groups")
    # Tables of corruptions state the images of one corruption.
    n = measured["n"] // len(groups) if groups and table.dataset else measured["n"]
    samples = table.samples.get(table.dataset or dataset)
    conditions = [
        ("dataset", dataset, dataset == measured["dataset"]),
        ("backbone", row.printed_backbone, row.backbone == measured["backbone"]),
        ("n", samples, samples == n),
    ]
    differs = [f"{name} {printed}" for name, printed, same in conditions if not same]
    return {
        "table": table.name,
        "source": table.source,
        "method": row.printed_method,
        "backbone": row.printed_backbone,
        "dataset": dataset,
        "labelled_data": row.labelled_data,
        "published": published,
        "recomputed": recomputed,
        "measured": value,
        "difference": value - published,
        "same_protocol": not differs,
        "differs": differs,
    }
