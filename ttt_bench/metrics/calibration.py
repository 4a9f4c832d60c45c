"""Calibration: how well probabilities, the softmax of the logits, match frequencies."""

import numpy as np

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


def nll(records: Records) -> float:
    """Return the mean negative log likelihood of the labels, in nats."""
    shifted = _shifted(records.required_logits())
    of_label = shifted[np.arange(len(records)), records.label]
    return float((np.log(np.exp(shifted, out=shifted).sum(axis=1)) - of_label).mean())


def brier(records: Records) -> float:
    """Return the mean squared distance of probabilities from labels, 0 to 2 (Brier 1950)."""
    p = _shifted(records.required_logits())
    np.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(records)), records.label] -= 1
    return float(np.einsum("nc,nc->n", p, p).mean())


def _shifted(logits: np.ndarray) -> np.ndarray:
    """Return a copy in float64 whose rows have the maximum 0, so that `exp` cannot overflow."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return shifted
