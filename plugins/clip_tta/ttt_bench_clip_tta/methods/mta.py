"""MTA: the mode of the views' features, with a weight for each view that is found beside it.

Paper: Zanella and Ben Ayed 2024, On the test-time zero-shot generalization of vision-language
    models: Do we really need prompt learning? (CVPR 2024, arXiv 2405.02266), section 3.
Code: MaxZanella/MTA (MIT licence).
Kind: sample. Nothing is trained.

Everything happens between the views of a sample: the mode is a weighted sum of them, so its cosines
follow from theirs. Sizes in comments: B samples, V views, D the size of a feature, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG, batch_invariant_matmul
from ttt_bench_clip_tta.adapter import ViewAdapter, ViewConfig

ROUNDS, STEPS, STILL = 5, 5, 1e-6
# Share of the other views that decide the bandwidth of a view.
NEAR = 0.3


class MTAConfig(ViewConfig):
    """The paper's values (section 4)."""

    views: int = Field(
        64, ge=2, le=100_000, description="views per image, the unaugmented one included"
    )
    lambda_y: float = Field(0.2, gt=0, description="weight of the entropy of the views' weights")
    lambda_q: float = Field(4.0, ge=0, description="weight of the affinity between views")


@dataclass(frozen=True)
class Mode:
    """The mode of each sample's views.

    Attributes:
        parts: the mode as a weighted sum of the views' unit features, itself of length 1.
        weights: the weight of each view, its inlierness score.
        bandwidth: the width of the kernel at each view.
    """

    parts: Float[Tensor, "batch views"]
    weights: Float[Tensor, "batch views"]
    bandwidth: Float[Tensor, "batch views"]


def find_mode(
    features: Float[Tensor, "batch views dim"],
    logits: Float[Tensor, "batch views classes"],
    lambda_y: float,
    lambda_q: float,
) -> Mode:
    """Find the mode of each sample's views and the weights of the views.

    Args:
        features: unit features of the views, the unaugmented one first.
        logits: their scores, by which views are alike.
        lambda_y: weight of the entropy of the weights.
        lambda_q: weight of the affinity between views.

    Source: equations 8 and 9, each iterated up to five times in five rounds, as released.
    """
    # The iterations leave few digits of a mode that is found from float32 cosines.
    wide = torch.float32 if features.device.type == "mps" else torch.float64
    cosines = batch_invariant_matmul(features.to(wide), features.to(wide).mT)  # (B, V, V)
    squares = squared_bandwidths(cosines)  # (B, V)
    probabilities = logits.softmax(dim=2)
    affinity = batch_invariant_matmul(probabilities, probabilities.mT).to(wide)  # (B, V, V)
    weights = torch.full_like(squares, 1 / squares.shape[1])
    place = Place.at_the_first(cosines)
    for _ in range(ROUNDS):
        near = place.kernel(squares)
        moving = torch.ones_like(weights[:, :1], dtype=torch.bool)  # (B, 1)
        for _ in range(STEPS):
            alike = lambda_q * product(affinity, weights)
            moved = ((near + alike) / lambda_y).softmax(dim=1)
            still = (moved - weights).norm(dim=1, keepdim=True) < STILL
            weights = torch.where(moving, moved, weights)
            moving = moving & ~still
            if not moving.any():
                break
        place = shift(cosines, place, squares, weights)
    found = (place.parts, weights, squares.sqrt())
    return Mode(*(values.to(features.dtype) for values in found))


@dataclass(frozen=True)
class Place:
    """Where the mode of each sample is while it moves.

    Attributes:
        parts: the mode as a weighted sum of the views.
        cosines: its cosine to each view.
    """

    parts: Float[Tensor, "batch views"]
    cosines: Float[Tensor, "batch views"]

    @classmethod
    def at_the_first(cls, cosines: Float[Tensor, "batch views views"]) -> "Place":
        """Return the place of each sample's first view."""
        parts = torch.zeros_like(cosines[:, 0])
        parts[:, 0] = 1
        return cls(parts, cosines[:, 0])

    def kernel(self, squares: Float[Tensor, "batch views"]) -> Float[Tensor, "batch views"]:
        """Return the Gaussian of each view's distance to the mode, as wide as its bandwidth.

        Args:
            squares: the squared bandwidth at each view.
        """
        distances = (2 - 2 * self.cosines).clamp(min=0)
        return torch.exp(-distances / (2 * squares))


def shift(
    cosines: Float[Tensor, "batch views views"],
    place: Place,
    squares: Float[Tensor, "batch views"],
    weights: Float[Tensor, "batch views"],
) -> Place:
    """Move the mode of each sample uphill, up to five times or until it stands still.

    Args:
        cosines: those between the views.
        place: where the mode is.
        squares: the squared bandwidth at each view.
        weights: the weight of each view.
    """
    moving: Bool[Tensor, "batch 1"] = torch.ones_like(weights[:, :1], dtype=torch.bool)
    for _ in range(STEPS):
        pulls = place.kernel(squares) * weights
        pulled = product(cosines, pulls)
        length = root((pulls * pulled).sum(dim=1, keepdim=True))
        parts, to_views = pulls / length, pulled / length
        # A step is a weighted sum of views too, and so is its length made of cosines.
        step = (parts - place.parts) * (to_views - place.cosines)
        still = root(step.sum(dim=1, keepdim=True)) < STILL
        place = Place(
            torch.where(moving, parts, place.parts), torch.where(moving, to_views, place.cosines)
        )
        moving = moving & ~still
        if not moving.any():
            break
    return place


def squared_bandwidths(
    cosines: Float[Tensor, "batch views views"],
) -> Float[Tensor, "batch views"]:
    """Return half of each view's mean squared distance to its nearest others."""
    near = max(1, int(NEAR * (cosines.shape[1] - 1)))
    likest = cosines.topk(near + 1, dim=2).values  # (B, V, near + 1)
    # The nearest of all is the view itself. Equal views have no distance.
    squares = (2 - 2 * likest[:, :, 1:]).clamp(min=0).mean(dim=2) / 2
    return squares.clamp(min=torch.finfo(squares.dtype).eps)


def root(squared: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
    """Return the square root of a number that rounding may have made negative."""
    return squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt()


def product(
    symmetric: Float[Tensor, "batch views views"], vectors: Float[Tensor, "batch views"]
) -> Float[Tensor, "batch views"]:
    """Return the product of each sample's symmetric matrix with its vector."""
    return (symmetric * vectors[:, None]).sum(dim=2)


def combine(
    parts: Float[Tensor, "batch views"], values: Float[Tensor, "batch views size"]
) -> Float[Tensor, "batch size"]:
    """Return the weighted sum of the views' values."""
    return batch_invariant_matmul(parts[:, None], values)[:, 0]  # (B, 1, size)


class MTA(ViewAdapter[MTAConfig]):
    """`mta`: the class whose text is nearest to the mode of the views."""

    Config = MTAConfig

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        config, features = self.config, self.encode(samples, rngs)
        logits = self.logits(features)  # (samples, views, classes)
        mode = find_mode(features, logits, config.lambda_y, config.lambda_q)
        # A weighted sum of features has the weighted sum of their logits.
        scores = combine(mode.parts, logits)
        return [Prediction(s, None, plain) for s, plain in zip(scores, logits[:, 0], strict=True)]
