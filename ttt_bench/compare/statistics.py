"""Statistics: intervals of accuracies, and paired tests of two methods on the same samples."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import bdtr, ndtri

CONFIDENCE = 0.95
# A difference is more than noise if its corrected p-value is below this.
LEVEL = 0.05
# A bootstrap distribution is computed to this many times sqrt(n) on both sides of its mean; by
# Hoeffding's inequality the rest of it is less than 1e-13.
REACH = 8
# Complex numbers of one block of pairs: bounds the memory.
BLOCK = 2**20
ROUNDING = 1e-12


def wilson(correct: Bool[np.ndarray, " samples"]) -> list[float]:
    """Return the 95 % Wilson interval of the share of correct predictions, in percent.

    Source: Wilson 1927.
    """
    n, share = len(correct), float(correct.mean())
    z = float(ndtri((1 + CONFIDENCE) / 2))
    center = share + z**2 / (2 * n)
    half_width = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = ((center + side * half_width) / (1 + z**2 / n) for side in (-1, 1))
    # Rounding must not exclude the ends themselves.
    return [0.0 if share == 0 else float(100 * low), 100.0 if share == 1 else float(100 * high)]


def paired(correct: Bool[np.ndarray, "methods samples"]) -> list[dict[str, Any]]:
    """Compare every pair of methods on the same samples, all pairs at once.

    Args:
        correct: which predictions of each method are correct.

    Returns:
        For each pair (a, b), in the order of `itertools.combinations`: `difference` in percentage
        points (a - b), its 95 % bootstrap interval `ci95`, the exact McNemar `p_mcnemar`, the flips
        from b to a `wrong_to_right` and `right_to_wrong`, and `n`.
    """
    methods, n = correct.shape
    pairs = np.array(list(combinations(range(methods), 2)), dtype=int).reshape(-1, 2)
    hits = correct.astype(np.float64)
    only_first = hits @ (1 - hits).T  # (methods, methods)
    won = only_first[pairs[:, 0], pairs[:, 1]].round().astype(int)
    lost = only_first[pairs[:, 1], pairs[:, 0]].round().astype(int)
    intervals = bootstrap_intervals(won, lost, n)
    # The exact test at probability one half is symmetric: both tails are equal.
    p_values = np.minimum(1, 2 * bdtr(np.minimum(won, lost).astype(float), won + lost, 0.5))
    return [
        {
            "difference": 100 * (gained - given) / n,
            "ci95": interval,
            "p_mcnemar": p,
            "wrong_to_right": gained,
            "right_to_wrong": given,
            "n": n,
        }
        for gained, given, interval, p in zip(
            won.tolist(), lost.tolist(), intervals.tolist(), p_values.tolist(), strict=True
        )
    ]


def bootstrap_intervals(
    won: Int[np.ndarray, " pairs"], lost: Int[np.ndarray, " pairs"], n: int
) -> Float[np.ndarray, "pairs 2"]:
    """Return 95 % percentile bootstrap intervals of differences in accuracy, in points.

    A resample of n samples is a multinomial draw of how many are won, lost and tied. The
    distribution of (won - lost) over all resamples is computed exactly, from its characteristic
    function, so that no draw is needed and an interval depends on its pair alone.

    Args:
        won: samples that only the first method of each pair has right.
        lost: samples that only the second method has right.
        n: all samples.
    """
    size = 1 << int(2 * REACH * np.sqrt(n) + 2).bit_length()
    rows = max(1, BLOCK // size)
    blocks = [
        _quantiles(won[start : start + rows], lost[start : start + rows], n, size)
        for start in range(0, len(won), rows)
    ]
    return 100 * np.concatenate(blocks or [np.zeros((0, 2))]) / n


def _quantiles(
    won: Int[np.ndarray, " pairs"], lost: Int[np.ndarray, " pairs"], n: int, size: int
) -> Int[np.ndarray, "pairs 2"]:
    """Return the two quantiles of (won - lost) in a resample, for a block of pairs."""
    # The upper half of the frequencies mirrors the lower one.
    angle = 2 * np.pi * np.arange(size // 2 + 1) / size
    gained, given = won[:, None] / n, lost[:, None] / n
    one_sample = gained * np.exp(-1j * angle) + given * np.exp(1j * angle) + 1 - gained - given
    mean = (won - lost)[:, None]
    # (pairs, size): the probability of each difference from the mean, zero in the middle
    probability = np.fft.irfft(one_sample**n * np.exp(1j * angle * mean), size)
    below = np.cumsum(np.fft.fftshift(probability, axes=1), axis=1)
    tail = (1 - CONFIDENCE) / 2
    first = [(below >= share - ROUNDING).argmax(axis=1) for share in (tail, 1 - tail)]
    return np.stack(first, axis=1) - size // 2 + mean


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for being several, by the step-down method of Holm (1979)."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
