"""Records: what metrics are functions of."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ttt_bench.api.errors import UserError


class MissingLogitsError(UserError):
    """A metric that needs logits met records without them."""


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
        logits: `[N, C]`, the reported scores; None in a file that was exported without them.
        seconds: time spent in the method, all samples together.
        image_digest: N digests of the decoded images, so that rows can be checked to have seen the
            same pixels; "" for each sample whose pixels are not known.
    """

    sample_id: list[str]
    group: list[str | None]
    label: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    unadapted_prediction: np.ndarray | None
    step_predictions: np.ndarray | None
    logits: np.ndarray | None
    seconds: float
    image_digest: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        if not self.image_digest:
            object.__setattr__(self, "image_digest", [""] * len(self.sample_id))

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
        names = json.dumps([self.sample_id, self.group, self.image_digest])
        state = hashlib.sha256(names.encode())
        state.update(repr(self.seconds).encode())
        arrays = (self.label, self.prediction, self.unadapted_prediction, self.step_predictions)
        for values, kind in ((a, "<i4") for a in arrays):
            state.update(b"none" if values is None else values.astype(kind).tobytes())
        for values in (self.confidence, self.logits):
            state.update(b"none" if values is None else values.astype("<f4").tobytes())
        return state.hexdigest()

    def required_logits(self) -> np.ndarray:
        """Return the logits `[N, C]`, for a metric that cannot do without them.

        Raises:
            MissingLogitsError: the records come without logits.
        """
        if self.logits is None:
            raise MissingLogitsError("needs logits, which these records come without")
        return self.logits

    def read_only(self) -> "Records":
        """Make every array read-only, and return the same records."""
        for values in vars(self).values():
            if isinstance(values, np.ndarray):
                values.setflags(write=False)
        return self

    def in_order_of(self, sample_ids: Sequence[str]) -> "Records":
        """Return the same records in the order of these ids, which are the same samples."""
        rows = {name: row for row, name in enumerate(self.sample_id)}
        order = np.array([rows[name] for name in sample_ids], dtype=int)
        before, steps, logits = self.unadapted_prediction, self.step_predictions, self.logits
        return Records(
            sample_id=list(sample_ids),
            group=[self.group[row] for row in order],
            label=self.label[order],
            prediction=self.prediction[order],
            confidence=self.confidence[order],
            unadapted_prediction=None if before is None else before[order],
            step_predictions=None if steps is None else steps[order],
            logits=None if logits is None else logits[order],
            seconds=self.seconds,
            image_digest=[self.image_digest[row] for row in order],
        )
