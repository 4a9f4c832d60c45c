"""StatA: a Gaussian of every class, fitted to a batch and held near its text.

Paper: Zanella, Fuchs, De Vleeschouwer and Ben Ayed 2025, Realistic Test-Time Adaptation of
    Vision-Language Models (CVPR 2025, arXiv 2501.03729), section 3.
Code: MaxZanella/StatA (AGPL-3.0); nothing of it is used here.
Kind: batch. Nothing is trained, and nothing is kept.

Sizes in comments: B samples, C classes, D the size of a feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG
from ttt_bench_clip_tta.adapter import TextAdapter
from ttt_bench_clip_tta.prompts import PromptConfig
from ttt_bench_clip_tta.views import finite_log

ROUNDS, STEPS = 10, 5
# Divides log-likelihoods, which are sums over dimensions.
SOFTENING = 50.0
LEAST_VARIANCE = 1e-12


class StatAConfig(PromptConfig):
    """The release's values."""

    batch_size: int = Field(default=64, ge=1, description="samples in a batch")
    anchor: float = Field(
        1.0, gt=0, description="samples of a class at which its statistics weigh half, alpha"
    )
    soft_counts: bool = Field(
        False, description="whether samples are counted by probabilities and not by best classes"
    )
    neighbours: int = Field(3, ge=1, description="nearest samples that share their classes")


@dataclass(frozen=True)
class Gaussians:
    """A Gaussian of every class.

    Attributes:
        mean: the means, of length 1.
        variance: the variance of every dimension.
        weight: how much the batch decides of each, 0 to 1.
    """

    mean: Float[Tensor, "classes dim"]
    variance: Float[Tensor, "classes dim"]
    weight: Float[Tensor, " classes"]


def fit(
    features: Float[Tensor, "batch dim"],
    texts: Float[Tensor, "classes dim"],
    scale: Float[Tensor, ""] | float,
    config: StatAConfig,
) -> tuple[Float[Tensor, "batch classes"], Gaussians]:
    """Fit the Gaussians to a batch, and return the probabilities of its samples with them.

    Args:
        features: unit features of the samples.
        texts: the unit text feature of each class.
        scale: the factor of cosines.
        config: anchor, counts and neighbours.
    """
    prior = (scale * features @ texts.T).softmax(dim=1)  # (B, C)
    nearest = likeness(features, config.neighbours)
    start = weighted_squares(features, texts, prior).sum(dim=0) / len(features)  # (D)
    variance = start.clamp(min=LEAST_VARIANCE).expand_as(texts)
    gaussians = Gaussians(texts, variance, torch.zeros_like(texts[:, 0]))
    assigned = prior
    for _ in range(ROUNDS):
        assigned = assign(features, prior, assigned, gaussians, nearest, config.neighbours)
        gaussians = updated(features, texts, assigned, start, config)
    return assign(features, prior, assigned, gaussians, nearest, config.neighbours), gaussians


def likeness(features: Float[Tensor, "batch dim"], neighbours: int) -> Float[Tensor, "batch batch"]:
    """Return the cosines of each sample to its nearest others, 0 for the rest.

    Args:
        features: unit features.
        neighbours: how many are near.
    """
    cosines = features @ features.T
    near = cosines.topk(min(neighbours + 1, len(features)), dim=1)
    # The nearest of all is the sample itself.
    return torch.zeros_like(cosines).scatter(1, near.indices[:, 1:], near.values[:, 1:])


def assign(
    features: Float[Tensor, "batch dim"],
    prior: Float[Tensor, "batch classes"],
    assigned: Float[Tensor, "batch classes"],
    gaussians: Gaussians,
    nearest: Float[Tensor, "batch batch"],
    neighbours: int,
) -> Float[Tensor, "batch classes"]:
    """Return the probabilities of the classes given their Gaussians and the neighbours' classes.

    Args:
        features: unit features.
        prior: zero-shot probabilities.
        assigned: the probabilities so far.
        gaussians: the Gaussians.
        nearest: what `likeness` returns.
        neighbours: how many are near.
    """
    scaled = features / gaussians.variance[:, None].sqrt()  # (C, B, D)
    centres = (gaussians.mean / gaussians.variance.sqrt())[:, None]  # (C, 1, D)
    distances = (scaled - centres).square().sum(dim=2).T  # (C, B) -> (B, C)
    likelihood = -(distances + gaussians.variance.log().sum(dim=1)) / 2
    own = finite_log(prior) + likelihood / SOFTENING
    both = nearest + nearest.T
    for _ in range(STEPS):
        assigned = (own + both @ assigned / (2 * neighbours)).softmax(dim=1)
    return assigned


def updated(
    features: Float[Tensor, "batch dim"],
    texts: Float[Tensor, "classes dim"],
    assigned: Float[Tensor, "batch classes"],
    start: Float[Tensor, " dim"],
    config: StatAConfig,
) -> Gaussians:
    """Return the Gaussians of assigned samples, each drawn towards its text.

    Args:
        features: unit features.
        texts: the unit text feature of each class.
        assigned: probabilities of the classes.
        start: the variance of every dimension that all classes begin with.
        config: anchor and counts.
    """
    total = assigned.sum(dim=0)  # (C)
    hard = F.one_hot(assigned.argmax(dim=1), len(texts)).sum(dim=0).to(total.dtype)
    counted = total if config.soft_counts else hard
    weight = counted / (config.anchor + counted)  # (C)
    share = weight[:, None]
    means = F.normalize(assigned.T @ features, dim=1)
    mean = F.normalize(share * means + (1 - share) * texts, dim=1)
    squares = weighted_squares(features, mean, assigned)
    own = squares / total.clamp(min=torch.finfo(total.dtype).tiny)[:, None]
    variance = share * own + (1 - share) * (start + (texts - mean).square())
    return Gaussians(mean, variance.clamp(min=LEAST_VARIANCE), weight)


def weighted_squares(
    features: Float[Tensor, "batch dim"],
    centres: Float[Tensor, "classes dim"],
    weights: Float[Tensor, "batch classes"],
) -> Float[Tensor, "classes dim"]:
    """Return the weighted sums of squared distances to each centre, dimension by dimension."""
    return torch.stack(
        [w @ (features - c).square() for c, w in zip(centres, weights.T, strict=True)]
    )


class StatA(TextAdapter[StatAConfig]):
    """`stata`: a transductive fit to each batch; scores are logarithms of its probabilities."""

    Config = StatAConfig

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        features = self.encode_images(samples)
        assigned, _ = fit(features, self.text, self.scale, self.config)
        scores = finite_log(assigned)
        before = self.scale * features @ self.text.T
        return [Prediction(s, None, b) for s, b in zip(scores, before, strict=True)]
