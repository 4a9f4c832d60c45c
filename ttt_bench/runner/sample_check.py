"""Comparing the record of one sample with what this machine computes for it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ttt_bench.api.records import Records

Verdict = Literal["equal", "close", "different"]

# Of the largest absolute logit of a sample; of a probability.
TOLERANCE = 1e-3
# Steps whose prediction may differ on another kind of device or with other versions.
STEPS_TOLERANCE = 0.1


@dataclass(frozen=True)
class SampleCheck:
    """One sample that was run again.

    Attributes:
        sample_id: the sample.
        group: its corruption or domain.
        verdict: `equal` bit for bit, `close` within the tolerance, or `different`.
        recorded: label, prediction and confidence in the records.
        here: the same of this machine.
        logit_difference: the largest difference of a logit; None for records without logits, and
            where a logit is not finite.
        reasons: what differs, in words.
    """

    sample_id: str
    group: str | None
    verdict: Verdict
    recorded: dict[str, Any]
    here: dict[str, Any]
    logit_difference: float | None
    reasons: tuple[str, ...]


def check_sample(before: Records, now: Records, same_environment: bool) -> SampleCheck:
    """Compare one sample's record with that of this machine.

    The same values are equal. The same predictions are close, with logits within a thousandth of
    the largest one and a confidence within 0.001; in another environment a step in ten may predict
    another class. Everything else is different.

    Args:
        before: the record of one sample.
        now: what this machine computed for it.
        same_environment: whether device and versions are those of the run.
    """
    difference, scale = None, 1.0
    if before.logits is not None and now.logits is not None:
        same_shape = before.logits.shape == now.logits.shape
        difference = float(abs(before.logits - now.logits).max()) if same_shape else float("inf")
        scale = float(abs(now.logits).max())
    distance = float(abs(before.confidence - now.confidence).max())
    steps = _share_of_steps(before, now)
    reasons = [
        f"{name} is {old} in the records and {new} here"
        for name, old, new in _values(before, now)
        if old != new
    ]
    if steps > (0 if same_environment else STEPS_TOLERANCE):
        reasons.append(f"{100 * steps:.0f} % of the step predictions differ")
    if difference is not None and not difference <= TOLERANCE * scale:
        reasons.append(f"logits differ by up to {difference:.3g}")
    if not distance <= TOLERANCE:
        reasons.append(f"confidence differs by {distance:.3g}")
    exact = not steps and not difference and not distance
    verdict: Verdict = "different" if reasons else "equal" if exact else "close"
    recorded, here = (_described(one) for one in (before, now))
    (name,), (group,) = before.sample_id, before.group
    if difference is not None and not math.isfinite(difference):
        difference = None
    return SampleCheck(name, group, verdict, recorded, here, difference, tuple(reasons))


def _values(before: Records, now: Records) -> Iterator[tuple[str, Any, Any]]:
    """Yield what may not differ at all, as (name, in the records, here)."""
    yield "label", int(before.label[0]), int(now.label[0])
    yield "group", before.group[0], now.group[0]
    yield "prediction", int(before.prediction[0]), int(now.prediction[0])
    yield "prediction before adaptation", _unadapted(before), _unadapted(now)
    yield "number of steps", _steps(before).shape[1], _steps(now).shape[1]
    if before.image_digest[0]:
        yield "digest of the image", before.image_digest[0], now.image_digest[0]


def _share_of_steps(before: Records, now: Records) -> float:
    """Return the share of steps whose prediction differs, 0 where the numbers of steps differ."""
    one, other = _steps(before), _steps(now)
    return float(np.mean(one != other)) if one.size and one.shape == other.shape else 0.0


def _unadapted(records: Records) -> int | None:
    unadapted = records.unadapted_prediction
    return None if unadapted is None else int(unadapted[0])


def _steps(records: Records) -> np.ndarray:
    steps = records.step_predictions
    return np.empty((len(records), 0), int) if steps is None else steps


def _described(records: Records) -> dict[str, Any]:
    confidence = float(records.confidence[0])
    return {
        "label": int(records.label[0]),
        "prediction": int(records.prediction[0]),
        # JSON knows finite numbers alone.
        "confidence": confidence if math.isfinite(confidence) else None,
    }
