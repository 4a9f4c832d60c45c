"""Intervals and tests for accuracies, all from scipy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000
SEED = 0


def wilson(right: np.ndarray) -> list[float]:
    """The 95 % Wilson interval of a share, in percent; `right` is bool `[N]`."""
    test = stats.binomtest(int(right.sum()), len(right))
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    return [100 * interval.low, 100 * interval.high]


def paired(mine: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Two methods on the same N samples; both arrays are bool `[N]`, right or wrong.

    Returns:
        `difference` in percentage points (mine - theirs), its 95 % percentile bootstrap interval
        `ci95` over samples (seeded), the exact McNemar `p_mcnemar`, the flips from theirs to mine
        `wrong_to_right` and `right_to_wrong`, and `n`.
    """
    gains = mine.astype(float) - theirs.astype(float)
    won, lost = int((gains > 0).sum()), int((gains < 0).sum())
    # A resample of N samples is a multinomial draw of how many were won, lost and tied.
    counts = np.array([won, lost, len(gains) - won - lost])
    draws = np.random.default_rng(SEED).multinomial(len(gains), counts / len(gains), RESAMPLES)
    differences = 100 * (draws[:, 0] - draws[:, 1]) / len(gains)
    tail = 50 * (1 - CONFIDENCE)
    return {
        "difference": float(100 * gains.mean()),
        "ci95": [float(q) for q in np.percentile(differences, [tail, 100 - tail])],
        "p_mcnemar": float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0,
        "wrong_to_right": won,
        "right_to_wrong": lost,
        "n": len(gains),
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several, by the step-down method of Holm (1979)."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected
