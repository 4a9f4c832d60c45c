"""LAME: Laplacian-adjusted maximum-likelihood estimation of a batch's classes.

Paper: Boudiaf, Mueller, Ben Ayed and Bertinetto 2022, Parameter-free Online Test-time Adaptation
    (CVPR 2022, arXiv 2201.05718), section 4.
Code: fiveai/LAME (CC BY-NC-SA 4.0); nothing of it is used here.
Kind: batch. Nothing is trained, and nothing is kept.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Adapter, AdapterConfig, Prediction, Sample, SampleRNG

Kernel = Literal["rbf", "knn", "linear"]
STEPS, PRECISION = 100, 1e-8


class LameConfig(AdapterConfig):
    """The release's values (section 5)."""

    batch_size: int = Field(16, ge=1, description="samples in a batch")
    affinity: Kernel = Field("rbf", description="affinity of two features: rbf, knn or linear")
    neighbours: int = Field(5, ge=1, description="nearest neighbours, for rbf and knn")
    symmetric: bool = Field(False, description="whether affinities are the mean of both directions")


def affinities(
    features: Float[Tensor, "batch dim"], kernel: Kernel, neighbours: int, symmetric: bool
) -> Float[Tensor, "batch batch"]:
    """Return how alike the samples of a batch are.

    Args:
        features: their features, not normalized.
        kernel: `knn`: 1 for the nearest others. `rbf`: a Gaussian as wide as the mean distance to
            one of the nearest. `linear`: inner products.
        neighbours: how many are near; for `rbf` the sample itself is one of them.
        symmetric: whether both directions are averaged.
    """
    units = F.normalize(features, dim=1)
    if kernel == "linear":
        weights = units @ units.T
    else:
        distances = torch.cdist(units, units, compute_mode="donot_use_mm_for_euclid_dist")
        if kernel == "rbf":
            near = distances.topk(min(neighbours, len(units)), dim=1, largest=False).values
            # Equal images have no distance.
            width = near[:, -1].mean().clamp(min=torch.finfo(units.dtype).eps)
            weights = torch.exp(-(distances**2) / (2 * width**2))
        else:
            near = distances.topk(min(neighbours + 1, len(units)), dim=1, largest=False).indices
            # The nearest of all is the sample itself.
            weights = torch.zeros_like(distances).scatter(1, near[:, 1:], 1.0)
    return 0.5 * (weights + weights.T) if symmetric else weights


def maximize(
    probabilities: Float[Tensor, "batch classes"], weights: Float[Tensor, "batch batch"]
) -> Float[Tensor, "batch classes"]:
    """Return the assignments that stay near predictions and agree between samples alike.

    Args:
        probabilities: the predictions.
        weights: the affinities.

    Source: equation 7, iterated until the objective (equation 6) changes by less than 1e-8 of it.
    """
    unary = -torch.log(probabilities + 1e-10)
    assignments = torch.softmax(-unary, dim=1)
    energy = torch.inf
    for step in range(STEPS):
        pairwise = weights @ assignments
        assignments = torch.softmax(pairwise - unary, dim=1)
        entropies = assignments * torch.log(assignments.clamp(min=1e-20))
        before, energy = (
            energy,
            float((unary * assignments - pairwise * assignments + entropies).sum()),
        )
        if step > 1 and abs(energy - before) <= PRECISION * abs(before):
            break
    return assignments


class Lame(Adapter[LameConfig]):
    """`lame`: the frozen model's predictions, made to agree where features are alike.

    The scores are logarithms of LAME's assignments.
    """

    Config = LameConfig

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        config, features = self.config, self.task.encode_image(samples)
        weights = affinities(features, config.affinity, config.neighbours, config.symmetric)
        assignments = maximize(self.task.logits(features).softmax(dim=1), weights)
        return [Prediction(scores) for scores in assignments.clamp(min=1e-20).log()]
