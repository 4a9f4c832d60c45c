"""The table of every number that metrics give and the overview does not show."""

from collections.abc import Mapping, Sequence
from typing import Any

from ttt_bench.registry import registry
from ttt_bench.report.tables import Grid

IN_THE_OVERVIEW = ("top1", "top5", "oracle_top1", "mean_corruption", "mce")


def score_table(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """A column for each metric that gives numbers; of one that gives several, for each of them.

    Scores by corruption, domain or step have tables and figures of their own.
    """
    plain = [name for name in registry().metrics if name not in IN_THE_OVERVIEW]
    scores = [_numbers({name: row.get(name) for name in plain}) for row in rows]
    columns = list(dict.fromkeys(name for own in scores for name in own))
    lines = [
        [row["method"], row["backbone"], row["dataset"]]
        + [f"{own[name]:.4g}" if name in own else "-" for name in columns]
        for row, own in zip(rows, scores, strict=True)
    ]
    header = ["method", "backbone", "dataset", *(name.replace("_", " ") for name in columns)]
    return Grid("other metrics", header, lines)


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, score in scores.items():
        if isinstance(score, int | float):
            found[name] = score
        elif isinstance(score, Mapping) and name not in ("groups", "corruptions"):
            found |= {f"{name}, {part}": value for part, value in _numbers(score).items()}
    return found
