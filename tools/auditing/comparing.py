"""Two rows of runs on the same samples: the difference, what it can show, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import ndtri

from tools.result_runs import correct
from ttt_bench.api.errors import UserError
from ttt_bench.compare.read import FinishedRun
from ttt_bench.compare.seeds import compare_over_seeds
from ttt_bench.compare.statistics import CONFIDENCE, LEVEL, holm, paired

# The gain that every comparison is planned for, as a share of the samples.
GAIN = 0.02
# The probability with which a true gain is to be seen.
POWER = 0.8
# A gain of this many standard errors is seen with that probability (Cohen 1988, section 2.3).
ERRORS = float(ndtri((1 + CONFIDENCE) / 2) + ndtri(POWER))

Verdict: TypeAlias = Literal["holds here", "does not hold here", "not told apart"]
# The finished runs of a name: one for each seed.
Runs: TypeAlias = Mapping[str, Sequence[FinishedRun]]


@dataclass(frozen=True)
class Question:
    """A part of a claim that two rows of runs can answer.

    Attributes:
        text: what is claimed.
        better: the name of the runs that are claimed to be more accurate.
        worse: the name of the other runs.
        differing: the share of samples, in percent, on which only one of the two was expected to be
            right when the number of samples was chosen.
        any_step: whether `better` counts a sample as right if the prediction after any step was,
            which peeks at the labels.
        decides: whether the answer is a verdict on the claim, or a number beside it.
    """

    text: str
    better: str
    worse: str
    differing: float
    any_step: bool = False
    decides: bool = True

    @property
    def samples_needed(self) -> int:
        """The samples that show a gain of two points with the wanted probability."""
        return samples_needed(self.differing / 100)


@dataclass(frozen=True)
class Answer:
    """What came out of a question.

    Attributes:
        question: the question.
        better: the runs of the row that is claimed to be better.
        worse: the runs of the other row.
        difference: the difference in points, better less worse.
        ci95: its 95 % interval in points.
        p: the p-value after Holm's correction for all questions of the claim.
        differing: the share of samples, in percent, on which only one of the two is right.
    """

    question: Question
    better: Sequence[FinishedRun]
    worse: Sequence[FinishedRun]
    difference: float
    ci95: tuple[float, float]
    p: float
    differing: float

    @property
    def samples(self) -> int:
        """The number of samples that both rows have."""
        return int(self.better[0].summary["n"])

    @property
    def smallest_gain(self) -> float:
        """The smallest true gain in points that these runs would have shown in 4 of 5 cases."""
        low, high = self.ci95
        error = (high - low) / (2 * float(ndtri((1 + CONFIDENCE) / 2)))
        return ERRORS * error

    @property
    def verdict(self) -> Verdict:
        """What the runs say of the question."""
        if self.p >= LEVEL:
            return "not told apart"
        return "holds here" if self.difference > 0 else "does not hold here"


def samples_needed(differing: float, gain: float = GAIN) -> int:
    """Return how many samples show a gain with a probability of 80 % at p = 0.05.

    Source: the normal approximation of McNemar's test (Connor 1987, Biometrics 43, 207 to 211),
    with the variance of the difference as it is under the gain.

    Args:
        differing: the share of samples on which only one of the two rows is right.
        gain: the difference of the accuracies, as a share.
    """
    return int(np.ceil(ERRORS**2 * max(0.0, differing - gain**2) / gain**2))


def answers(questions: Sequence[Question], runs: Runs) -> list[Answer]:
    """Return the answer to each question, with p corrected for all of them.

    Args:
        questions: the questions of one claim.
        runs: the runs by name.

    Raises:
        UserError: runs are missing, or two rows have other samples or seeds.
    """
    found = [_compared(one, runs) for one in questions]
    corrected = holm([p for *_, p in found])
    return [
        Answer(
            question=one,
            better=runs[one.better],
            worse=runs[one.worse],
            difference=difference,
            ci95=(low, high),
            p=p,
            differing=differing,
        )
        for one, (difference, (low, high), differing, _), p in zip(
            questions, found, corrected, strict=True
        )
    ]


def _compared(question: Question, runs: Runs) -> tuple[float, tuple[float, float], float, float]:
    """Return the difference, its interval, the share that differs in percent, and p."""
    for name in (question.better, question.worse):
        if name not in runs:
            raise UserError(f"no runs are called {name!r}; there are {', '.join(sorted(runs))}")
    better = correct(runs[question.better], question.any_step)
    worse = correct(runs[question.worse])
    _require_same(question, runs)
    differing = 100 * float((better != worse).mean())
    if len(better) == 1:
        (one,) = paired(np.concatenate([better, worse]))
        low, high = one["ci95"]
        return one["difference"], (low, high), differing, one["p_mcnemar"]
    several = compare_over_seeds(better, worse, same_seeds=True)
    low, high = several["ci95"]
    return several["difference"], (low, high), differing, several["p"]


def _require_same(question: Question, runs: Runs) -> None:
    """Refuse rows with other samples, other images or other seeds.

    Raises:
        UserError: they are not of one table.
    """
    first, second = (
        [run.card.fingerprint for run in runs[name]] for name in (question.better, question.worse)
    )
    if first != second:
        raise UserError(
            f"{question.better} and {question.worse} have other samples or seeds; make the runs of "
            "the claim's file again"
        )
