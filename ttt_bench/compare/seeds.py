"""Intervals over samples and seeds: the bootstrap for rows of several seeds.

A row of S seeds on n samples is a table of S times n predictions, right or wrong. Its accuracy
varies with the samples and with the seeds, so a resample draws both anew: n of the samples and S of
the seeds, each with replacement and independently of each other (the pigeonhole bootstrap; Owen
2007, The Annals of Applied Statistics 1(2), 386 to 411). Two rows with the same seeds share the
drawn seeds, as they share the drawn samples; rows with other seeds draw theirs apart.

Given the drawn seeds, the distribution over all resamples of the samples is computed exactly, as
for one seed (`statistics.py`). It is averaged over all draws of seeds, weighted by their
probability, or over a fixed number of draws where there are more. With few seeds the interval is
too short, since S drawn seeds vary by (S - 1) / S as much as S new ones.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement
from math import factorial, lcm, prod
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ttt_bench.compare.statistics import CONFIDENCE, REACH, ROUNDING

# Draws of seeds that the distribution is averaged over at most.
MOST_DRAWS = 512

Draws = list[tuple[Int[np.ndarray, " seeds"], float]]


def accuracy_interval(correct: Bool[np.ndarray, "seeds samples"]) -> list[float]:
    """Return the 95 % bootstrap interval of a row's accuracy over samples and seeds, in percent.

    Args:
        correct: which predictions are right, for each seed.
    """
    seeds, n = correct.shape
    mixture = _Mixture(((weights @ correct, share) for weights, share in _draws(seeds)), seeds)
    return [100 * bound / (seeds * n) for bound in mixture.interval()]


def compare_over_seeds(
    first: Bool[np.ndarray, "first_seeds samples"],
    second: Bool[np.ndarray, "second_seeds samples"],
    same_seeds: bool,
) -> dict[str, Any]:
    """Compare two rows on the same samples, at least one of which has several seeds.

    Args:
        first: which predictions of the first row are right, for each of its seeds.
        second: the same of the second row.
        same_seeds: whether the seeds of both rows are the same, in one order.

    Returns:
        `difference` of the mean accuracies in percentage points (first - second), its 95 %
        bootstrap interval `ci95`, the two-sided bootstrap `p`: twice the share of resamples on the
        side of zero where fewer are, and zero itself counted in; and the mean flips
        `wrong_to_right` and `right_to_wrong`.
    """
    n = first.shape[1]
    whole = lcm(len(first), len(second))
    scale_first, scale_second = whole // len(first), whole // len(second)
    if same_seeds:
        draws = ((weights, weights, share) for weights, share in _draws(len(first)))
    else:
        draws = _two_draws(len(first), len(second))
    sums = (
        (scale_first * (a @ first) - scale_second * (b @ second), share) for a, b, share in draws
    )
    mixture = _Mixture(sums, whole)
    difference = 100 * (first.mean() - second.mean())
    if same_seeds:
        gained, given = (first & ~second).sum() / len(first), (second & ~first).sum() / len(first)
    else:
        right, other = first.mean(axis=0), second.mean(axis=0)
        gained, given = (right * (1 - other)).sum(), (other * (1 - right)).sum()
    return {
        "difference": float(difference),
        "ci95": [100 * bound / (whole * n) for bound in mixture.interval()],
        "p": mixture.p_value(),
        "wrong_to_right": float(gained),
        "right_to_wrong": float(given),
        "n": n,
    }


def _draws(seeds: int) -> Draws:
    """Return how often each seed is drawn in a resample, with the probability of this draw."""
    if _number_of_draws(seeds) <= MOST_DRAWS:
        every = combinations_with_replacement(range(seeds), seeds)
        counts = [np.bincount(one, minlength=seeds) for one in every]
        total = seeds**seeds
        return [
            (one, factorial(seeds) / prod(map(factorial, one.tolist())) / total) for one in counts
        ]
    drawn = np.random.default_rng(0).multinomial(seeds, [1 / seeds] * seeds, MOST_DRAWS)
    return [(one, 1 / MOST_DRAWS) for one in drawn]


def _number_of_draws(seeds: int) -> int:
    return factorial(2 * seeds - 1) // factorial(seeds) // factorial(seeds - 1)


def _two_draws(first: int, second: int) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Yield independent draws of the seeds of two rows, with the probability of both."""
    if _number_of_draws(first) * _number_of_draws(second) <= MOST_DRAWS:
        for a, share in _draws(first):
            for b, other in _draws(second):
                yield a, b, share * other
        return
    draw = np.random.default_rng(0)
    for _ in range(MOST_DRAWS):
        a, b = (draw.multinomial(seeds, [1 / seeds] * seeds) for seeds in (first, second))
        yield a, b, 1 / MOST_DRAWS


class _Mixture:
    """The distribution of the sum over a resample, averaged over the draws of seeds."""

    def __init__(
        self, draws: Iterable[tuple[Int[np.ndarray, " samples"], float]], most: int
    ) -> None:
        """Compute the distribution for each draw.

        Args:
            draws: a whole number for each sample, and the probability of these numbers.
            most: the largest absolute value of the numbers.
        """
        self._means: list[int] = []
        self._below: list[Float[np.ndarray, " size"]] = []
        self._shares: list[float] = []
        known: dict[bytes, int] = {}
        for values, share in draws:
            # (2 * most + 1,): how many samples have each value
            counts = np.bincount(values.astype(int) + most, minlength=2 * most + 1)
            number = known.setdefault(counts.tobytes(), len(self._means))
            if number < len(self._means):
                self._shares[number] += share
                continue
            self._means.append(int(values.sum()))
            self._below.append(_cumulative(counts, most))
            self._shares.append(share)

    def interval(self) -> list[float]:
        """Return the quantiles that enclose 95 % of the distribution."""
        tail = (1 - CONFIDENCE) / 2
        return [float(self._quantile(share)) for share in (tail, 1 - tail)]

    def p_value(self) -> float:
        """Return twice the probability of the smaller side of zero, zero counted in both."""
        return min(1.0, 2 * max(0.0, min(self._probability(0), 1 - self._probability(-1))))

    def _probability(self, value: int) -> float:
        """Return the probability of at most a value."""
        total = 0.0
        for mean, below, share in zip(self._means, self._below, self._shares, strict=True):
            place = value - mean + len(below) // 2
            if place >= 0:
                total += share * float(below[min(place, len(below) - 1)])
        return total

    def _quantile(self, share: float) -> int:
        half = max(len(below) for below in self._below) // 2
        low, high = min(self._means) - half, max(self._means) + half
        while low < high:
            middle = (low + high) // 2
            if self._probability(middle) >= share - ROUNDING:
                high = middle
            else:
                low = middle + 1
        return low


def _cumulative(counts: Int[np.ndarray, " values"], most: int) -> Float[np.ndarray, " size"]:
    """Return the cumulative distribution of the sum of a resample, its mean in the middle.

    Args:
        counts: how many samples have each value from -most to most.
        most: the largest absolute value.
    """
    n = int(counts.sum())
    size = 1 << int(2 * REACH * most * np.sqrt(n) + 2).bit_length()
    values = np.flatnonzero(counts) - most
    mean = int((values * counts[values + most]).sum())
    # The upper half of the frequencies mirrors the lower one.
    angle = 2 * np.pi * np.arange(size // 2 + 1) / size
    one_sample = sum(counts[value + most] / n * np.exp(-1j * angle * value) for value in values)
    probability = np.fft.irfft(one_sample**n * np.exp(1j * angle * mean), size)
    return np.cumsum(np.fft.fftshift(probability))
