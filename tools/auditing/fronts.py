"""The claim that more computing buys accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.auditing.comparing import Runs
from tools.auditing.lines import COST, Line, Outcome
from tools.result_text import signed, table, wrapped
from ttt_bench.compare.pairs import Table, compare, tabulate
from ttt_bench.compare.pareto import front
from ttt_bench.compare.rows import Row
from ttt_bench.compare.statistics import LEVEL
from ttt_bench.report.grid import three_digits

NOTE = (
    "A row is on the front if no other is at least as accurate and as cheap, and better in one. "
    "The last column compares each row with the most accurate one that is cheaper: points, 95 % "
    "interval, and \\* where p is below 0.05 after Holm's correction for all pairs of the table."
)


@dataclass(frozen=True)
class Fronts:
    """The claim that more computing buys accuracy: every method lies on the Pareto front."""

    def outcome(self, runs: Runs) -> Outcome:
        """Return the fronts, one for each table."""
        lines, blocks = list[Line](), ["## Result"]
        for one in tabulate([run for some in runs.values() for run in some])[0]:
            rows = one.rows
            summaries = [row.summary for row in rows]
            backbones = ", ".join(dict.fromkeys(str(row["backbone"]) for row in summaries))
            title = f"{one.title}, {backbones}, {summaries[0]['n']} samples"
            on_front = front(summaries, COST)
            lines.append(_line(title, rows, on_front))
            blocks += [f"**{title}**", table(_cells(one, on_front))]
        return Outcome(lines, [*blocks, wrapped(NOTE)])


def _line(title: str, rows: Sequence[Row], on_front: Sequence[int]) -> Line:
    names = ", ".join(rows[index].label for index in on_front)
    return Line(
        question="Every method lies on the Pareto front of accuracy and GFLOPs",
        tested=title,
        result=f"{len(on_front)} of {len(rows)} on the front: {names}",
        p="",
        cost=_range(rows),
        verdict="holds here" if len(on_front) == len(rows) else "does not hold here",
    )


def _cells(one: Table, on_front: Sequence[int]) -> list[list[str]]:
    """Return the cells of a table, the cheapest rows first."""
    rows = one.rows
    pairs = {(pair["a"]["name"], pair["b"]["name"]): pair for pair in compare([one])["pairs"]}
    cells = [["method", "GFLOPs", "top-1 %", "on the front", "to the cheaper front row"]]
    for index in sorted(range(len(rows)), key=lambda i: _key(rows[i])):
        below = [other for other in on_front if _key(rows[other]) < _key(rows[index])]
        cells.append(
            [
                rows[index].label,
                three_digits(rows[index].summary["cost"][COST]),
                f"{rows[index].summary['top1']:.1f}",
                "yes" if index in on_front else "no",
                _difference(rows[index], rows[below[-1]], pairs) if below else "(cheapest)",
            ]
        )
    return cells


def _key(row: Row) -> tuple[float, float]:
    return row.summary["cost"][COST], -row.summary["top1"]


def _range(rows: Sequence[Row]) -> str:
    costs = sorted(row.summary["cost"][COST] for row in rows)
    return f"{three_digits(costs[0])} to {three_digits(costs[-1])}"


def _difference(row: Row, other: Row, pairs: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    pair, sign = pairs.get((row.label, other.label)), 1
    if pair is None:
        pair, sign = pairs[other.label, row.label], -1
    low, high = sorted(sign * bound for bound in pair["ci95"])
    star = "\\*" if pair["p_holm"] < LEVEL else ""
    return f"{signed(sign * pair['difference'])}{star} [{signed(low)}, {signed(high)}]"
