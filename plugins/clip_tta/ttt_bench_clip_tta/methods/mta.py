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
    # In float32 the cosines of views near each other would leave the mode too few digits.
    wide = torch.float32 if features.device.type == "mps" else torch.float64
    precise, probabilities = features.to(wide), logits.to(wide).softmax(dim=2)
    cosines = batch_invariant_matmul(precise, precise.mT)  # (B, V, V)
    squares = squared_bandwidths(cosines)  # (B, V)
    affinity = batch_invariant_matmul(probabilities, probabilities.mT)  # (B, V, V)
    weights = torch.full_like(squares, 1 / squares.shape[1])
    parts = torch.zeros_like(squares)
    parts[:, 0] = 1
    for _ in range(ROUNDS):
        near = kernel(cosines, parts, squares)
        moving = torch.ones_like(parts[:, :1], dtype=torch.bool)  # (B, 1)
        for _ in range(STEPS):
            alike = lambda_q * product(affinity, weights)
            step = ((near + alike) / lambda_y).softmax(dim=1) - weights
            weights = weights + step * moving
            moving = moving & (step.norm(dim=1, keepdim=True) >= STILL)
        parts = shift(cosines, parts, squares, weights)
    found = (parts, weights, squares.sqrt())
    return Mode(*(values.to(features.dtype) for values in found))


def shift(
    cosines: Float[Tensor, "batch views views"],
    parts: Float[Tensor, "batch views"],
    squares: Float[Tensor, "batch views"],
    weights: Float[Tensor, "batch views"],
) -> Float[Tensor, "batch views"]:
    """Move the mode of each sample uphill, up to five times or until it stands still.

    Args:
        cosines: those between the views.
        parts: the mode as a weighted sum of the views.
        squares: the squared bandwidth at each view.
        weights: the weight of each view.
    """
    moving: Bool[Tensor, "batch 1"] = torch.ones_like(parts[:, :1], dtype=torch.bool)
    for _ in range(STEPS):
        pulls = kernel(cosines, parts, squares) * weights
        moved = pulls / length(cosines, pulls)
        step = moved - parts
        parts = torch.where(moving, moved, parts)
        moving = moving & (length(cosines, step) >= STILL)
    return parts


def squared_bandwidths(
    cosines: Float[Tensor, "batch views views"],
) -> Float[Tensor, "batch views"]:
    """Return half of each view's mean squared distance to its nearest others."""
    near = max(1, int(NEAR * (cosines.shape[1] - 1)))
    distances = (2 - 2 * cosines).clamp(min=0).sort(dim=2).values  # (B, V, V)
    # The nearest of all is the view itself. Equal views have no distance.
    squares = distances[:, :, 1 : near + 1].mean(dim=2) / 2
    return squares.clamp(min=torch.finfo(squares.dtype).eps)


def kernel(
    cosines: Float[Tensor, "batch views views"],
    parts: Float[Tensor, "batch views"],
    squares: Float[Tensor, "batch views"],
) -> Float[Tensor, "batch views"]:
    """Return the Gaussian of each view's distance to the mode, as wide as the view's bandwidth.

    Args:
        cosines: those between the views.
        parts: the mode as a weighted sum of the views.
        squares: the squared bandwidth at each view.
    """
    distances = (2 - 2 * product(cosines, parts)).clamp(min=0)
    return torch.exp(-distances / (2 * squares))


def length(
    cosines: Float[Tensor, "batch views views"], parts: Float[Tensor, "batch views"]
) -> Float[Tensor, "batch 1"]:
    """Return the length of a weighted sum of unit features.

    Args:
        cosines: those between the features.
        parts: the weight of each.
    """
    squared = (product(cosines, parts) * parts).sum(dim=1, keepdim=True)
    return squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt()


def product(
    matrices: Float[Tensor, "batch rows views"], vectors: Float[Tensor, "batch views"]
) -> Float[Tensor, "batch rows"]:
    """Return the product of each sample's matrix with its vector."""
    return batch_invariant_matmul(matrices, vectors[:, :, None])[:, :, 0]  # (B, rows, 1)


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
        scores = product(logits.mT, mode.parts)
        return [Prediction(s, None, plain) for s, plain in zip(scores, logits[:, 0], strict=True)]
