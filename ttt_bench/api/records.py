"""Records: what metrics are functions of."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

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
        logits: `[N, C]`, the reported scores; None where they are not in memory, or where a file
            was exported without them. A metric takes them from `required_logits`.
        seconds: time spent in the method, all samples together.
        image_digest: N digests of the decoded images, so that rows can be checked to have seen the
            same pixels; "" for each sample whose pixels are not known.
        classes: C; None where it is not known.
        load_logits: reads the logits of records that were read without them; None for no such file.
        stream: N names of streams; None for a method of kind `sample`.
        position: `[N]`, the place of each sample in its stream, from 0; None where `stream` is.
        revisited: the records of a group that came again at the end of a stream; None elsewhere.
            They count in no other metric.
    """

    sample_id: Sequence[str]
    group: Sequence[str | None]
    label: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    unadapted_prediction: np.ndarray | None
    step_predictions: np.ndarray | None
    logits: np.ndarray | None
    seconds: float
    image_digest: Sequence[str] = ()
    classes: int | None = None
    load_logits: Callable[[], np.ndarray] | None = field(default=None, repr=False, compare=False)
    stream: Sequence[str | None] | None = None
    position: np.ndarray | None = None
    revisited: "Records | None" = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.image_digest:
            object.__setattr__(self, "image_digest", [""] * len(self.sample_id))
        if self.logits is not None:
            object.__setattr__(self, "classes", self.logits.shape[1])

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

    @cached_property
    def probabilities(self) -> Float[np.ndarray, "samples classes"]:
        """The softmax of the logits in float64, read-only, computed once for all metrics.

        Raises:
            MissingLogitsError: the records come without logits.
        """
        logits = self.required_logits()
        # A row's maximum becomes 0, so that `exp` cannot overflow.
        values = np.subtract(logits, logits.max(axis=1, keepdims=True), dtype=np.float64)
        np.exp(values, out=values)
        values /= values.sum(axis=1, keepdims=True)
        values.setflags(write=False)
        return values

    def digest(self) -> str:
        """Return a SHA-256 over every value, so that no change to a file goes unseen."""
        names = json.dumps([self.sample_id, self.group, self.image_digest])
        state = hashlib.sha256(names.encode())
        state.update(repr(self.seconds).encode())
        arrays = (self.label, self.prediction, self.unadapted_prediction, self.step_predictions)
        floats = (self.confidence, self.logits)
        for values, kind in [*((a, "<i4") for a in arrays), *((a, "<f4") for a in floats)]:
            # Values that have this form already are hashed where they are.
            state.update(b"none" if values is None else np.ascontiguousarray(values, kind).data)
        if self.position is not None:
            state.update(json.dumps(self.stream).encode())
            state.update(np.ascontiguousarray(self.position, "<i4").data)
        return state.hexdigest()

    def required_logits(self) -> np.ndarray:
        """Return the logits `[N, C]`, for a metric that cannot do without them.

        Logits that were left on disk are read all at once: 15 GB for 3,750,000 samples of 1000
        classes. A metric that is a mean over samples needs no more than a part of them at a time,
        see `MetricSpec.per_sample`.

        Raises:
            MissingLogitsError: the records come without logits.
        """
        if self.logits is not None:
            return self.logits
        if self.load_logits is None:
            raise MissingLogitsError("needs logits, which these records come without")
        return self.load_logits()

    def read_only(self) -> "Records":
        """Make every array read-only, and return the same records."""
        for values in vars(self).values():
            if isinstance(values, np.ndarray):
                values.setflags(write=False)
        return self

    def in_order_of(self, sample_ids: Sequence[str]) -> "Records":
        """Return the same records in the order of these ids, which are the same samples."""
        rows = {name: row for row, name in enumerate(self.sample_id)}
        return self.rows([rows[name] for name in sample_ids])

    def rows(self, rows: Sequence[int]) -> "Records":
        """Return the records of these rows, in this order."""
        return self._selected(np.array(rows, dtype=int), lambda names: [names[row] for row in rows])

    def between(self, start: int, stop: int) -> "Records":
        """Return the records from row `start` to before `stop`; arrays are views, no copies."""
        part = slice(start, stop)
        return self._selected(part, lambda names: names[part])

    def _selected(
        self, rows: np.ndarray | slice, select: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> "Records":
        before, steps, logits = self.unadapted_prediction, self.step_predictions, self.logits
        stream, position = self.stream, self.position
        return replace(
            self,
            sample_id=select(self.sample_id),
            group=select(self.group),
            label=self.label[rows],
            prediction=self.prediction[rows],
            confidence=self.confidence[rows],
            unadapted_prediction=None if before is None else before[rows],
            step_predictions=None if steps is None else steps[rows],
            logits=None if logits is None else logits[rows],
            image_digest=select(self.image_digest),
            load_logits=None,
            stream=None if stream is None else select(stream),
            position=None if position is None else position[rows],
            revisited=None,
        )
