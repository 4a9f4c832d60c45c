"""FreshAdapter: one adapter set up for a task, and copies of what it predicts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.contract import count_violation, violations
from ttt_bench.api.errors import UserError, described
from ttt_bench.api.sample import Prediction, Sample, SampleRNG
from ttt_bench.engine.task import CachingTask
from ttt_bench.testing.outcome import CheckFailed

SEED = 0


@dataclass(frozen=True, slots=True)
class RecordingRNG(SampleRNG):
    """A sample's randomness that remembers the purposes it was asked for.

    Attributes:
        purposes: shared by every sample of a fresh adapter.
    """

    purposes: set[str] = field(default_factory=set[str], compare=False)

    @override
    def torch(self, purpose: str) -> torch.Generator:
        self.purposes.add(purpose)
        return SampleRNG.torch(self, purpose)

    @override
    def numpy(self, purpose: str) -> np.random.Generator:
        self.purposes.add(purpose)
        return SampleRNG.numpy(self, purpose)


@dataclass(frozen=True)
class PredictionCopy:
    """A prediction as it was when the method returned it.

    Attributes:
        prediction: the same scores, in tensors of their own on the CPU.
    """

    prediction: Prediction

    @classmethod
    def of(cls, prediction: Prediction) -> "PredictionCopy":
        """Copy the logits, those of the steps, and those before adaptation."""
        return cls(Prediction(**{n: s.detach().cpu().clone() for n, s in _scores(prediction)}))

    @property
    def logits(self) -> Tensor:
        """The reported scores `[classes]`."""
        return self.prediction.logits

    def is_finite(self) -> bool:
        """Say whether every score is a finite number."""
        return all(bool(torch.isfinite(scores).all()) for _, scores in _scores(self.prediction))

    def difference(self, other: "PredictionCopy") -> str:
        """Return the first difference from another prediction, "" where all bits are equal."""
        these, those = dict(_scores(self.prediction)), dict(_scores(other.prediction))
        if these.keys() != those.keys():
            return f"one has {', '.join(these)}, the other {', '.join(those)}"
        for name, scores in these.items():
            others = those[name]
            if scores.shape != others.shape or scores.dtype != others.dtype:
                return (
                    f"{name}: {list(scores.shape)} {scores.dtype} against {list(others.shape)} "
                    f"{others.dtype}"
                )
            if not torch.equal(scores.isnan(), others.isnan()):
                return f"{name}: NaN in one of them"
            gap = (scores.double() - others.double()).nan_to_num().abs().max()
            if not torch.equal(scores.nan_to_num(), others.nan_to_num()):
                return f"{name} by up to {float(gap):.2g} (tolerance 0: bit for bit)"
        return ""


def _scores(prediction: Prediction) -> list[tuple[str, Tensor]]:
    return [(name, scores) for name, scores in vars(prediction).items() if scores is not None]


@dataclass
class FreshAdapter:
    """One adapter, set up for a task.

    Attributes:
        adapter: the method.
        task: what it is set up for.
        purposes: the purposes for which it has asked its rngs.
    """

    adapter: Adapter[Any]
    task: CachingTask
    purposes: set[str] = field(default_factory=set[str])

    def predict(
        self,
        samples: Sequence[Sample],
        seed: int = SEED,
        rng_ids: Sequence[str] | None = None,
    ) -> list[PredictionCopy]:
        """Predict samples that come together, and copy the predictions.

        Args:
            samples: one batch.
            seed: the seed of the rngs.
            rng_ids: the ids of the rngs, None for those of the samples.

        Raises:
            UserError: the method refuses a sample.
            CheckFailed: it raises anything else, or does not return predictions.
        """
        return [PredictionCopy.of(one) for one in self.adapt(samples, seed, rng_ids)]

    def adapt(
        self,
        samples: Sequence[Sample],
        seed: int = SEED,
        rng_ids: Sequence[str] | None = None,
    ) -> list[Prediction]:
        """Predict samples that come together, and return the method's own objects.

        Args:
            samples: one batch.
            seed: the seed of the rngs.
            rng_ids: the ids of the rngs, None for those of the samples.

        Raises:
            UserError: the method refuses a sample.
            CheckFailed: it raises anything else, or does not return predictions.
        """
        ids = [sample.id for sample in samples] if rng_ids is None else rng_ids
        rngs = [RecordingRNG(seed, name, purposes=self.purposes) for name in ids]
        with failing("adapt raises"):
            predictions = list(self.adapter.adapt(samples, rngs))
        if problem := count_violation(predictions, len(samples)):
            raise CheckFailed(problem.text)
        for prediction in predictions:
            for problem in violations(prediction, len(self.task.classes)):
                # Everything else is for the checks of predictions.
                if problem.rule == "type":
                    raise CheckFailed(problem.text)
        return predictions


@contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn what a method's own code raises into a failed check.

    Args:
        what: the beginning of the message, such as "setup raises".

    Raises:
        CheckFailed: the code inside raised anything but a refusal.
    """
    try:
        yield
    except (UserError, CheckFailed):
        raise
    except Exception as error:
        raise CheckFailed(f"{what} {described(error)}") from error


def require_same(prediction: PredictionCopy, expected: PredictionCopy, what: str) -> None:
    """Refuse a prediction that differs from the expected one in a bit.

    Args:
        prediction: the one to check.
        expected: what it must equal.
        what: the beginning of the message.

    Raises:
        CheckFailed: they differ.
    """
    if difference := prediction.difference(expected):
        raise CheckFailed(f"{what}: differs in {difference}")
