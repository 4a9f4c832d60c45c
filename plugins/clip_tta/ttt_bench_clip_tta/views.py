"""Views of samples: which ones are confident, and what they say together.

Samples are stacked. No result of a sample depends on the others, not even in its rounding.
Sizes in comments: B samples, V views, K kept views, C classes, D the size of a feature.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ttt_bench import entropy, select_confident


@dataclass(frozen=True)
class ViewStatistics:
    """What the confident views of each sample say together, as TDA computes it.

    Attributes:
        feature: the mean of their unit features, not normalized again.
        logits: the mean of their logits.
        probabilities: the mean of their softmax distributions.
        entropy: the entropy of `probabilities`, in nats.
        pseudo_label: the class of the highest mean logit.
        views: the indices of the views, the most confident first.
    """

    feature: Float[Tensor, "batch dim"]
    logits: Float[Tensor, "batch classes"]
    probabilities: Float[Tensor, "batch classes"]
    entropy: Float[Tensor, " batch"]
    pseudo_label: Int[Tensor, " batch"]
    views: Int[Tensor, "batch kept"]


def number_kept(views: int, share: float) -> int:
    """Return how many views a share of them is: rounded down, but a single view is kept."""
    return 1 if views == 1 else int(views * share)


def confident_views(
    logits: Float[Tensor, "batch views classes"], share: float
) -> Int[Tensor, "batch kept"]:
    """Return the indices of the views of lowest entropy, the most confident first.

    Args:
        logits: the scores of every view.
        share: share of the views to keep, see `number_kept`.
    """
    return select_confident(logits, 1.0 if logits.shape[1] == 1 else share)


def take_views(
    values: Float[Tensor, "batch views size"], views: Int[Tensor, "batch kept"]
) -> Float[Tensor, "batch kept size"]:
    """Return the values of some views of each sample.

    Args:
        values: features, logits or other values of every view.
        views: indices of views.
    """
    index = views[:, :, None].expand(-1, -1, values.shape[2])  # (B, K) -> (B, K, size)
    return values.gather(1, index)


def view_statistics(
    features: Float[Tensor, "batch views dim"],
    logits: Float[Tensor, "batch views classes"],
    share: float,
) -> ViewStatistics:
    """Return what the confident views of each sample say together.

    Args:
        features: unit features of the views.
        logits: their scores.
        share: share of the views that is confident, see `number_kept`.

    Source: TDA (Karmanov et al. 2024, arXiv 2403.18293), kdiAAA/TDA.
    """
    views = confident_views(logits, share)
    kept_logits = take_views(logits, views)  # (B, K, C)
    mean_logits = kept_logits.mean(dim=1)
    probabilities = kept_logits.softmax(dim=2).mean(dim=1)
    return ViewStatistics(
        feature=take_views(features, views).mean(dim=1),
        logits=mean_logits,
        probabilities=probabilities,
        entropy=torch.special.entr(probabilities).sum(dim=1),
        pseudo_label=mean_logits.argmax(dim=1),
        views=views,
    )


def mean_log_probabilities(
    logits: Float[Tensor, "batch views classes"],
) -> Float[Tensor, "batch classes"]:
    """Return the logarithm of the mean of the views' softmax distributions."""
    mean = logits.log_softmax(dim=2).logsumexp(dim=1) - math.log(logits.shape[1])
    # Finite for a class that no view can see.
    return mean.clamp(min=torch.finfo(mean.dtype).min)


def finite_log(probabilities: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Return logarithms of probabilities, finite for 0 too."""
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def count_votes(labels: Int[Tensor, "batch views"], classes: int) -> Float[Tensor, "batch classes"]:
    """Return how many views of each sample are for a class.

    Args:
        labels: the class of each view.
        classes: the number of classes.
    """
    votes = torch.zeros(len(labels), classes, device=labels.device)
    return votes.scatter_add_(1, labels, torch.ones_like(labels, dtype=votes.dtype))


# The part of a vote by which classes of equally many votes are put in order.
PART_OF_A_VOTE = 1e-3


def vote_scores(
    votes: Float[Tensor, "batch classes"], log_probabilities: Float[Tensor, "batch classes"]
) -> Float[Tensor, "batch classes"]:
    """Return scores whose softmax is each class's share of the votes.

    Classes of equally many votes, also of none, are put in order by probabilities, which count as
    a thousandth of a vote.

    Args:
        votes: the number of votes of each class.
        log_probabilities: logarithms of the probabilities.
    """
    total = torch.log(votes + PART_OF_A_VOTE * log_probabilities.exp())
    # A probability may be too small for a number; its logarithm still has an order.
    unseen = log_probabilities + math.log(PART_OF_A_VOTE)
    return torch.where(votes > 0, total, unseen)


def normalized_entropy(logits: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch"]:
    """Return entropy in nats over log2 of the number of classes, as TDA and its kin measure it."""
    return entropy(logits) / math.log2(logits.shape[-1])
