"""Entropies of predictions, and the selection of confident views, as test-time methods use them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def entropy(logits: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch"]:
    """Return the entropy of the softmax distribution, in nats."""
    log_p = logits.log_softmax(dim=-1)
    return -(log_p * log_p.exp()).sum(dim=-1)


def marginal_entropy(
    logits: Float[Tensor, "*batch views classes"],
) -> Float[Tensor, "*batch"]:
    """Return the entropy of the mean of the views' softmax distributions, in nats.

    Source: MEMO (Zhang, Levine and Finn 2022, arXiv 2110.09506, section 3).
    """
    log_p = logits.log_softmax(dim=-1)
    mean = log_p.logsumexp(dim=-2) - torch.tensor(float(logits.shape[-2])).log()
    mean = mean.clamp(min=torch.finfo(mean.dtype).min)
    return -(mean * mean.exp()).sum(dim=-1)


def select_confident(
    logits: Float[Tensor, "*batch views classes"], share: float
) -> Int[Tensor, "*batch kept"]:
    """Return the indices of the views of lowest entropy, the most confident first.

    Args:
        logits: the scores of every view.
        share: share of the views to keep, rounded down to a whole number of views.

    Source: TPT (Shu et al. 2022, arXiv 2209.07511, section 3.2).
    """
    kept = int(logits.shape[-2] * share)
    return entropy(logits).argsort(dim=-1, stable=True)[..., :kept]
