"""Claims that comparisons of two rows decide."""

from collections.abc import Mapping
from dataclasses import dataclass

from tools.auditing.comparing import Answer, Question, Runs, answers
from tools.auditing.lines import Line, Outcome, gflops, rows_table, tested
from tools.result_text import signed, table, wrapped
from ttt_bench.compare.statistics import LEVEL
from ttt_bench.report.findings import p_text


@dataclass(frozen=True)
class Comparisons:
    """A claim that comparisons of two rows decide.

    Attributes:
        questions: the comparisons.
    """

    questions: tuple[Question, ...]

    def outcome(self, runs: Runs) -> Outcome:
        """Return what the runs that are there show."""
        ready = [one for one in self.questions if {one.better, one.worse} <= runs.keys()]
        found = dict(zip(ready, answers(ready, runs), strict=True))
        lines = [
            _line(found[one]) if one in found else Line(one.text, "", "", "", "", "(not run yet)")
            for one in self.questions
        ]
        return Outcome(lines, self._blocks(runs, found))

    def _blocks(self, runs: Runs, found: Mapping[Question, Answer]) -> list[str]:
        missing = [one.text for one in self.questions if one not in found]
        corrected = (
            f" after Holm's correction for {len(found)} comparisons" if len(found) > 1 else ""
        )
        return [
            "## Result",
            table(
                [
                    ["question", "compared", "points", "95 % interval", "p", "verdict"],
                    *(_result_row(one) for one in found.values()),
                ],
                numbers=False,
            ),
            wrapped(
                f"Points of top-1, the first row less the second. p is two-sided{corrected}; "
                f"below {LEVEL} its sign is the verdict. Intervals and p of rows with several "
                "seeds are by the bootstrap over samples and seeds, of one seed by the bootstrap "
                "over samples and the exact McNemar test."
            ),
            *([wrapped(f"Not run yet: {'; '.join(missing)}.")] if missing else []),
            "## Samples",
            table(
                [
                    ["question", "expected to differ", "needed", "used", "differ", "smallest gain"],
                    *(_power_row(one) for one in found.values()),
                ]
            ),
            wrapped(
                "The samples that are needed show a gain of 2 points in 4 of 5 cases at p = 0.05. "
                "They follow from the share of samples on which only one of the two rows is "
                "right, as expected from earlier runs of this repository where there were any. "
                "Beside it stand the share that was seen, and the smallest gain in points that "
                "these runs would have shown in 4 of 5 cases."
            ),
            "## Rows",
            table(rows_table(runs), numbers=False),
        ]


def _line(answer: Answer) -> Line:
    low, high = answer.ci95
    verdict: str = answer.verdict
    if not answer.question.decides:
        verdict = "(a number beside the claim)"
    elif verdict == "not told apart":
        verdict += f" (a gain of {answer.smallest_gain:.1f} would have shown)"
    return Line(
        question=answer.question.text,
        tested=tested(answer.better),
        result=f"{signed(answer.difference)} [{signed(low)}, {signed(high)}]",
        p=p_text(answer.p),
        cost=f"{gflops(answer.better)} / {gflops(answer.worse)}",
        verdict=verdict,
    )


def _result_row(answer: Answer) -> list[str]:
    low, high = answer.ci95
    question = answer.question
    better = f"{question.better}, any step" if question.any_step else question.better
    return [
        question.text,
        f"{better} less {question.worse}",
        signed(answer.difference),
        f"{signed(low)} to {signed(high)}",
        p_text(answer.p),
        f"**{answer.verdict}**" if question.decides else "-",
    ]


def _power_row(answer: Answer) -> list[str]:
    return [
        answer.question.text,
        f"{answer.question.differing:g} %",
        str(answer.question.samples_needed),
        str(answer.samples),
        f"{answer.differing:.1f} %",
        f"{answer.smallest_gain:.1f}",
    ]
