"""Calibration: how well probabilities, the softmax of the logits, match frequencies."""

import numpy as np
from jaxtyping import Float

from ttt_bench.api.records import Records
from ttt_bench.metrics.accuracy import percent

BINS = 15


def ece(records: Records) -> float:
    """Return the expected calibration error over 15 equal bins of confidence, in percentage points.

    Source: Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    return sum(
        share * abs(accuracy - confidence)
        for share, accuracy, confidence in reliability(records)
        if share
    )


def reliability(records: Records) -> list[tuple[float, float, float]]:
    """Return (share of the samples, accuracy, mean confidence) for each bin of confidence.

    The share is from 0 to 1, the others in percent and nan where a bin is empty. A confidence on an
    edge is in the bin below it.
    """
    confidence = records.confidence.astype(np.float64)
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    result = []
    for number in range(BINS):
        member = bins == number
        if member.any():
            accuracy = percent(records.correct[member])
            result.append((member.mean(), accuracy, 100 * confidence[member].mean()))
        else:
            result.append((0.0, float("nan"), float("nan")))
    return result


def nll(records: Records) -> Float[np.ndarray, " samples"]:
    """Return for each sample the negative log likelihood of its label, in nats."""
    logits, every = records.required_logits(), np.arange(len(records))
    below = logits.max(axis=1).astype(np.float64) - logits[every, records.label]
    # The highest probability is the inverse of the sum of exponentials, and never underflows.
    return below - np.log(records.probabilities.max(axis=1))


def brier(records: Records) -> Float[np.ndarray, " samples"]:
    """Return for each sample the squared distance of probabilities from its label, 0 to 2.

    Source: Brier 1950.
    """
    p = records.probabilities
    of_label = p[np.arange(len(records)), records.label]
    # Rounding must not make a square negative.
    others = np.maximum(np.einsum("nc,nc->n", p, p) - of_label**2, 0)
    return others + (1 - of_label) ** 2
