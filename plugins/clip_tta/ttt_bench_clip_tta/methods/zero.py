"""ZERO: the confident views vote, each for its best class.

Paper: Farina, Franchi, Iacca, Mancini and Ricci 2024, Frustratingly Easy Test-Time Adaptation of
    Vision-Language Models (NeurIPS 2024, arXiv 2405.18330), section 4.
Code: FarinaMatteo/zero (MIT licence).
Kind: sample. Nothing is trained.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG, entropy
from ttt_bench_clip_tta.adapter import ConfidentViewConfig, ViewAdapter
from ttt_bench_clip_tta.views import (
    count_votes,
    mean_log_probabilities,
    number_kept,
    vote_scores,
)

# The class that gets one vote more, given the tied classes and the scores of the view to ask.
LastResort = Callable[
    [Bool[Tensor, "batch classes"], Float[Tensor, "batch classes"]], Int[Tensor, " batch"]
]


class ZeroConfig(ConfidentViewConfig):
    """The paper's values (section 5)."""

    selection: float = Field(
        0.3, gt=0, le=1, description="share of the views that vote, those of lowest entropy"
    )


def best_of_tied(
    tied: Bool[Tensor, "batch classes"], logits: Float[Tensor, "batch classes"]
) -> Int[Tensor, " batch"]:
    """Return the tied class that a view scores highest."""
    return logits.masked_fill(~tied, -torch.inf).argmax(dim=1)


def vote(
    logits: Float[Tensor, "batch views classes"],
    share: float,
    last_resort: LastResort = best_of_tied,
) -> tuple[Float[Tensor, "batch classes"], Int[Tensor, "batch views"]]:
    """Return the votes of the confident views, and the views by confidence.

    Where classes tie, the most confident of the other views that votes for one of them gives it
    one vote more.

    Args:
        logits: the scores of every view.
        share: share of the views that vote.
        last_resort: decides where none of the other views votes for a tied class, by the scores of
            the most confident one of them.
    """
    samples, views, _ = logits.shape
    order = entropy(logits).argsort(dim=1, stable=True)  # (samples, views)
    labels = logits.argmax(dim=2).gather(1, order)
    kept = number_kept(views, share)
    votes = count_votes(labels[:, :kept], logits.shape[2])
    tied = votes == votes.amax(dim=1, keepdim=True)  # (samples, classes)
    # Without other views the least confident voter is asked.
    first_other = min(kept, views - 1)
    others = labels[:, first_other:]
    helps = tied.gather(1, others)
    # The first that helps; argmax of equal values may be any of them.
    numbers = torch.arange(others.shape[1], device=others.device).expand_as(others)
    first = numbers.masked_fill(~helps, others.shape[1] - 1).amin(dim=1, keepdim=True)
    found = others.gather(1, first)[:, 0]  # (samples, 1) -> (samples)
    rows = torch.arange(samples, device=logits.device)
    asked = logits[rows, order[:, first_other]]  # (samples, classes)
    decided = torch.where(helps.any(dim=1), found, last_resort(tied, asked))
    more = (tied.sum(dim=1) > 1).to(votes.dtype)
    return votes.scatter_add(1, decided[:, None], more[:, None]), order


class Zero(ViewAdapter[ZeroConfig]):
    """`zero`: the class that most confident views score highest."""

    Config = ZeroConfig

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        logits = self.logits(self.encode(samples, rngs))  # (samples, views, classes)
        votes, _ = vote(logits, self.config.selection)
        scores = vote_scores(votes, mean_log_probabilities(logits))
        return [Prediction(s, None, plain) for s, plain in zip(scores, logits[:, 0], strict=True)]
