"""The claim that more computing buys accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.auditing.comparing import Runs
from tools.auditing.lines import COST, Line, short
from tools.result_text import signed, table, wrapped
from ttt_bench.compare.pairs import compare, tabulate
from ttt_bench.compare.pareto import front
from ttt_bench.compare.rows import Row
from ttt_bench.compare.statistics import LEVEL


@dataclass(frozen=True)
class Fronts:
    """The claim that more computing buys accuracy: every method lies on the Pareto front."""

    def lines(self, runs: Runs) -> list[Line]:
        """Return the rows of the overview, one for each table."""
        found = []
        for title, rows, on_front, _ in self._fronts(runs):
            names = ", ".join(rows[index].label for index in on_front)
            off = len(rows) - len(on_front)
            found.append(
                Line(
                    question="Every method lies on the Pareto front of accuracy and GFLOPs",
                    tested=title,
                    result=f"{len(on_front)} of {len(rows)} on the front: {names}",
                    p="",
                    cost=_range(rows),
                    verdict="does not hold here" if off else "holds here",
                )
            )
        return found

    def blocks(self, runs: Runs) -> list[str]:
        """Return the paragraphs and tables of the page."""
        blocks = ["## Result"]
        for title, rows, on_front, pairs in self._fronts(runs):
            cells = [["method", "GFLOPs", "top-1 %", "on the front", "to the cheaper front row"]]
            for index in sorted(range(len(rows)), key=lambda i: _key(rows[i])):
                below = [other for other in on_front if _key(rows[other]) < _key(rows[index])]
                cells.append(
                    [
                        rows[index].label,
                        short(rows[index].summary["cost"][COST]),
                        f"{rows[index].summary['top1']:.1f}",
                        "yes" if index in on_front else "no",
                        _difference(rows[index], rows[below[-1]], pairs) if below else "(cheapest)",
                    ]
                )
            blocks += [f"**{title}**", table(cells)]
        note = (
            "A row is on the front if no other is at least as accurate and as cheap, and better in "
            "one. The last column compares each row with the most accurate one that is cheaper: "
            "points, 95 % interval, and \\* where p is below 0.05 after Holm's correction for all "
            "pairs of the table."
        )
        return [*blocks, wrapped(note)]

    def _fronts(
        self, runs: Runs
    ) -> list[tuple[str, Sequence[Row], list[int], Mapping[tuple[str, str], Mapping[str, Any]]]]:
        found = []
        for one in tabulate([run for some in runs.values() for run in some])[0]:
            pairs = {
                (pair["a"]["name"], pair["b"]["name"]): pair for pair in compare([one])["pairs"]
            }
            summaries = [row.summary for row in one.rows]
            backbones = ", ".join(dict.fromkeys(str(row["backbone"]) for row in summaries))
            title = f"{one.title}, {backbones}, {summaries[0]['n']} samples"
            found.append((title, one.rows, front(summaries, COST), pairs))
        return found


def _key(row: Row) -> tuple[float, float]:
    return row.summary["cost"][COST], -row.summary["top1"]


def _range(rows: Sequence[Row]) -> str:
    costs = sorted(row.summary["cost"][COST] for row in rows)
    return f"{short(costs[0])} to {short(costs[-1])}"


def _difference(row: Row, other: Row, pairs: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    pair, sign = pairs.get((row.label, other.label)), 1
    if pair is None:
        pair, sign = pairs[other.label, row.label], -1
    low, high = sorted(sign * bound for bound in pair["ci95"])
    star = "\\*" if pair["p_holm"] < LEVEL else ""
    return f"{signed(sign * pair['difference'])}{star} [{signed(low)}, {signed(high)}]"
