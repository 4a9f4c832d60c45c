"""Seen: what CLIP alone says of one sample, and the samples of a batch one after another."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ttt_bench_clip_tta.views import ViewStatistics


@dataclass(frozen=True)
class Seen:
    """What CLIP alone says of a sample, from its plain image or its confident views.

    Attributes:
        feature: its feature.
        logits: its logits.
        probabilities: its distribution.
        entropy: the entropy of `probabilities`, in nats.
        label: the pseudo-label.
    """

    feature: Float[Tensor, " dim"]
    logits: Float[Tensor, " classes"]
    probabilities: Float[Tensor, " classes"]
    entropy: float
    label: int


def one_by_one(statistics: ViewStatistics) -> Iterator[Seen]:
    """Yield the samples of a batch in the order of the stream."""
    rows = zip(
        statistics.feature,
        statistics.logits,
        statistics.probabilities,
        statistics.entropy.tolist(),
        statistics.pseudo_label.tolist(),
        strict=True,
    )
    return (Seen(*row) for row in rows)
