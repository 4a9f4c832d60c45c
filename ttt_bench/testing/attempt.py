"""One adapter set up, and what it says of samples."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.errors import UserError
from ttt_bench.api.sample import Prediction, Sample, SampleRNG
from ttt_bench.features.task import CachingTask
from ttt_bench.testing.suite import CheckFailed

SEED = 0


@dataclass(frozen=True, slots=True)
class RecordingRNG(SampleRNG):
    """A stream that remembers which purposes it was asked for.

    Attributes:
        asked: shared by the rngs of a trial.
    """

    asked: set[str] = field(default_factory=set[str], compare=False)

    @override
    def torch(self, purpose: str) -> torch.Generator:
        self.asked.add(purpose)
        return SampleRNG.torch(self, purpose)

    @override
    def numpy(self, purpose: str) -> np.random.Generator:
        self.asked.add(purpose)
        return SampleRNG.numpy(self, purpose)


@dataclass(frozen=True)
class Outcome:
    """What a method said of a sample, copied the moment it was said."""

    scores: dict[str, Tensor]

    @classmethod
    def of(cls, prediction: Prediction) -> "Outcome":
        """Copies of the logits, the steps, and the scores before adaptation, of those there are."""
        parts = {
            name: getattr(prediction, name, None)
            for name in ("logits", "step_logits", "unadapted_logits")
        }
        return cls({n: v.detach().cpu().clone() for n, v in parts.items() if v is not None})

    @property
    def logits(self) -> Tensor:
        """The reported scores `[classes]`."""
        return self.scores["logits"]

    def finite(self) -> bool:
        """Whether every score is a number."""
        return all(bool(torch.isfinite(scores).all()) for scores in self.scores.values())

    def difference(self, other: "Outcome") -> str:
        """What differs from another outcome, "" where every bit is the same."""
        if self.scores.keys() != other.scores.keys():
            return f"one has {', '.join(self.scores)}, the other {', '.join(other.scores)}"
        for name, mine in self.scores.items():
            theirs = other.scores[name]
            if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
                return (
                    f"{name}: {list(mine.shape)} {mine.dtype}, {list(theirs.shape)} {theirs.dtype}"
                )
            if not torch.equal(mine.nan_to_num(), theirs.nan_to_num()) or not torch.equal(
                mine.isnan(), theirs.isnan()
            ):
                gap = (mine.double() - theirs.double()).abs().max()
                return f"{name} by up to {float(gap):.2g}"
        return ""


@dataclass
class Trial:
    """One adapter, set up for a task of its own.

    Attributes:
        asked: the purposes its rngs were asked for.
    """

    adapter: Adapter[Any]
    task: CachingTask
    asked: set[str] = field(default_factory=set[str])

    def predict(
        self,
        samples: Sequence[Sample],
        seed: int = SEED,
        rng_ids: Sequence[str] | None = None,
    ) -> list[Outcome]:
        """What the method says of samples that come together.

        Args:
            rng_ids: the ids to draw for, where the samples pretend to have others.

        Raises:
            UserError: the method refuses a sample.
            CheckFailed: it raises anything else, or what it returns are not predictions.
        """
        return [Outcome.of(prediction) for prediction in self.adapt(samples, seed, rng_ids)]

    def adapt(
        self,
        samples: Sequence[Sample],
        seed: int = SEED,
        rng_ids: Sequence[str] | None = None,
    ) -> list[Prediction]:
        """The same, as the method's own objects."""
        ids = [sample.id for sample in samples] if rng_ids is None else rng_ids
        rngs = [RecordingRNG(seed, name, asked=self.asked) for name in ids]
        with blaming("adapt raises"):
            predictions = list(self.adapter.adapt(samples, rngs))
        if len(predictions) != len(samples):
            raise CheckFailed(
                f"adapt returned {len(predictions)} predictions for {len(samples)} samples"
            )
        for prediction in predictions:
            if not isinstance(prediction, Prediction):
                raise CheckFailed(f"adapt returned {type(prediction).__name__}, not Prediction")
            for name, scores in vars(prediction).items():
                if not isinstance(scores, Tensor) and (name == "logits" or scores is not None):
                    raise CheckFailed(
                        f"{name} of a prediction is {type(scores).__name__}, no tensor"
                    )
        return predictions


@contextmanager
def blaming(what: str) -> Iterator[None]:
    """Say in one line what a method's own code raised."""
    try:
        yield
    except (UserError, CheckFailed):
        raise
    except Exception as error:
        raise CheckFailed(f"{what} {type(error).__name__}: {error}".splitlines()[0]) from error


def same(mine: Outcome, theirs: Outcome, what: str) -> None:
    """Refuse an outcome that differs from another in a bit.

    Args:
        what: the beginning of the message.
    """
    if gap := mine.difference(theirs):
        raise CheckFailed(f"{what}: differs in {gap}")
