"""Records: what metrics are functions of."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Records:
    """The predictions for N samples, with their labels. Metrics are functions of this alone.

    Attributes:
        sample_id: N opaque ids.
        group: N corruptions or domains, or None each.
        label: `[N]`.
        prediction: `[N]`, after the last step.
        confidence: `[N]`, the softmax probability of the prediction, 0 to 1.
        unadapted_prediction: `[N]`, before any step; None for a method that adapts nothing.
        step_predictions: `[N, T]` after each of T steps; None for a method that does not iterate.
        logits: `[N, C]`.
        seconds: time spent in the method, all samples together.
    """

    sample_id: list[str]
    group: list[str | None]
    label: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    unadapted_prediction: np.ndarray | None
    step_predictions: np.ndarray | None
    logits: np.ndarray
    seconds: float

    def __len__(self) -> int:
        return len(self.sample_id)

    @property
    def correct(self) -> np.ndarray:
        """Which predictions are right, bool `[N]`."""
        return self.prediction == self.label

    @property
    def correct_at_any_step(self) -> np.ndarray:
        """Which samples were right after at least one step, bool `[N]`."""
        if self.step_predictions is None:
            return self.correct
        return (self.step_predictions == self.label[:, None]).any(axis=1)

    def digest(self) -> str:
        """Return a SHA-256 over every value, so that no change to a file goes unseen."""
        state = hashlib.sha256(json.dumps([self.sample_id, self.group]).encode())
        state.update(repr(self.seconds).encode())
        arrays = (self.label, self.prediction, self.unadapted_prediction, self.step_predictions)
        for values, kind in ((a, "<i4") for a in arrays):
            state.update(b"none" if values is None else values.astype(kind).tobytes())
        for values in (self.confidence, self.logits):
            state.update(values.astype("<f4").tobytes())
        return state.hexdigest()

    def in_order_of(self, sample_ids: Sequence[str]) -> "Records":
        """Return the same records in the order of these ids, which are the same samples."""
        rows = {name: row for row, name in enumerate(self.sample_id)}
        order = np.array([rows[name] for name in sample_ids], dtype=int)
        before, steps = self.unadapted_prediction, self.step_predictions
        return Records(
            sample_id=list(sample_ids),
            group=[self.group[row] for row in order],
            label=self.label[order],
            prediction=self.prediction[order],
            confidence=self.confidence[order],
            unadapted_prediction=None if before is None else before[order],
            step_predictions=None if steps is None else steps[order],
            logits=self.logits[order],
            seconds=self.seconds,
        )
