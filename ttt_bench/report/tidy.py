"""Tidy tables: a line for each run, row, pair or group, each value one number or word."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ttt_bench.api.errors import UserError
from ttt_bench.api.text import plain
from ttt_bench.compare.rows import is_number
from ttt_bench.compare.statistics import wilson
from ttt_bench.report.comparison import Comparison

# The tables that have a tidy form, of `comparison.TABLES`.
TIDY = ("results", "pairs", "groups")
FACTS = ("backbone", "precision", "kind", "stream", "correlation", "batch_size", "labelled_data")


def tidy(compared: Comparison, name: str) -> str:
    """Return a table as comma-separated values: a header, then a line for each run or pair.

    Args:
        compared: the comparison.
        name: `results`, a line for each run; `pairs`, a line for each pair of rows; `groups`, a
            line for each metric by group, run and group.

    Raises:
        UserError: the table has no such form.
    """
    if name not in TIDY:
        raise UserError(
            f"--format csv has the tables {', '.join(TIDY)}; {name} is in --format text, markdown, "
            "latex or html"
        )
    return separated({"results": runs, "pairs": pairs, "groups": groups}[name](compared))


def separated(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return lines as comma-separated values, under a header of all their names."""
    header = list(dict.fromkeys(key for line in lines for key in line))
    file = io.StringIO()
    table = [header, *([line.get(key) for key in header] for line in lines)]
    csv.writer(file, lineterminator="\n").writerows([list(map(_cell, line)) for line in table])
    return file.getvalue().rstrip("\n")


def runs(compared: Comparison) -> list[dict[str, Any]]:
    """Return a line for each run."""
    lines = []
    for table in compared.tables:
        for row in table.rows:
            for run in row.runs:
                summary, card = run.summary, run.card
                low, high = wilson(run.records.correct)
                numbers = _numbers(summary)
                lines.append(
                    {
                        "variant": row.label,
                        "method": summary["method"],
                        "dataset": summary["dataset"],
                        "limit": card.protocol["limit"],
                        "seed": card.protocol["seed"],
                        **{name: summary.get(name) for name in FACTS},
                        **{f"config.{key}": value for key, value in card.method["config"].items()},
                        "n": summary["n"],
                        "top1": summary["top1"],
                        "top1_low": low,
                        "top1_high": high,
                        **numbers,
                        "fingerprint": summary["fingerprint"],
                        "path": str(run.path),
                    }
                )
    return lines


def rows(compared: Comparison) -> list[dict[str, Any]]:
    """Return a line for each row, which stands for several seeds where it has them."""
    lines = []
    for row in (row for table in compared.tables for row in table.rows):
        summary, spread = row.summary, row.summary["sd"] or {}
        baseline = summary["baseline"] or {}
        low, high = summary["ci95"]
        difference_low, difference_high = baseline.get("ci95") or (None, None)
        lines.append(
            {
                "variant": row.label,
                "method": summary["method"],
                "dataset": summary["dataset"],
                "table": summary["column"],
                **{name: summary.get(name) for name in FACTS},
                "seeds": len(row.runs),
                "n": summary["n"],
                "top1": summary["top1"],
                "top1_low": low,
                "top1_high": high,
                "top1_sd": spread.get("top1"),
                "baseline": baseline.get("name"),
                "difference": baseline.get("difference"),
                "difference_low": difference_low,
                "difference_high": difference_high,
                "p_holm": baseline.get("p_holm"),
                **_numbers(summary),
                "fingerprint": summary["fingerprint"],
            }
        )
    return lines


def _numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics and costs of a summary that are numbers."""
    return {
        name: value
        for name, value in {**summary, **summary["cost"]}.items()
        if is_number(value) and name not in (*FACTS, "n", "seed")
    }


def pairs(compared: Comparison) -> list[dict[str, Any]]:
    """Return a line for each pair of rows."""
    return [
        {
            "a": pair["a"]["name"],
            "b": pair["b"]["name"],
            "dataset": pair["dataset"],
            "table": pair["column"],
            "difference": pair["difference"],
            "difference_low": pair["ci95"][0],
            "difference_high": pair["ci95"][1],
            **{name: pair[name] for name in ("p", "p_holm", "test", "n")},
            **{name: pair[name] for name in ("wrong_to_right", "right_to_wrong")},
            "method_differences": " ".join(pair["method_differences"]),
        }
        for pair in compared.compared["pairs"]
    ]


def groups(compared: Comparison) -> list[dict[str, Any]]:
    """Return a line for each metric by group, run and group."""
    return [
        {
            "variant": row.label,
            "method": run.summary["method"],
            "dataset": run.summary["dataset"],
            "seed": run.card.protocol["seed"],
            "metric": metric,
            "group": group,
            "value": value,
        }
        for table in compared.tables
        for row in table.rows
        for run in row.runs
        for metric, values in run.summary.items()
        if isinstance(values, Mapping) and metric not in ("cost", "known_failures")
        for group, value in values.items()
        if is_number(value)
    ]


def _cell(value: Any) -> str:
    """Return a value as a cell, with an apostrophe where a spreadsheet would compute it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return repr(value)
    nested = isinstance(value, list | dict)
    text = plain(json.dumps(value, ensure_ascii=False) if nested else str(value))
    number = re.fullmatch(r"[+-]?[\d.,]*(e[+-]?\d+)?", text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not number else text
