"""Test-time prompt tuning: what it minimizes and how (Shu et al. 2022, section 3)."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Logits = Callable[
    [Float[Tensor, "samples tokens width"], Float[Tensor, "samples views dim"]],
    Float[Tensor, "samples views classes"],
]


def entropy(logits: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch"]:
    """Of the softmax distribution, in nats."""
    log_p = logits.log_softmax(dim=-1)
    return -(log_p * log_p.exp()).sum(dim=-1)


def select_confident(
    logits: Float[Tensor, "samples views classes"], share: float
) -> Int[Tensor, "samples kept"]:
    """The int(views * share) views of lowest entropy, the most confident first."""
    kept = int(logits.shape[1] * share)
    return entropy(logits).argsort(dim=1, stable=True)[:, :kept]


def entropy_of_mean(
    logits: Float[Tensor, "samples views classes"],
) -> Float[Tensor, " samples"]:
    """Entropy of the views' mean distribution, in log space."""
    log_p = logits.log_softmax(dim=2)
    mean = log_p.logsumexp(dim=1) - torch.tensor(float(logits.shape[1])).log()
    mean = mean.clamp(min=torch.finfo(mean.dtype).min)
    return -(mean * mean.exp()).sum(dim=1)


def tune(
    logits: Logits,
    context: Float[Tensor, "samples tokens width"],
    views: Float[Tensor, "samples views dim"],
    steps: int,
    lr: float,
    share: float,
) -> tuple[Float[Tensor, "samples tokens width"], Float[Tensor, "samples steps_and_one classes"]]:
    """Tune each sample's context, with an optimizer of its own, and predict after every step.

    Args:
        logits: class scores of view features under contexts.
        context: where to start.
        views: unit image features, the plain image first.
        share: of the views that are confident enough; chosen once, before the first step.

    Returns:
        The tuned contexts, and the scores of the plain image before the first step and after each.
    """
    context = context.detach().clone().requires_grad_()
    # Elementwise and fresh: a stack of samples is as many optimizers.
    optimizer = torch.optim.AdamW([context], lr=lr)
    with torch.no_grad():
        first = logits(context, views)
    kept = select_confident(first, share)
    confident = views.gather(1, kept[:, :, None].expand(-1, -1, views.shape[2]))
    predictions = [first[:, 0]]
    for _ in range(steps):
        optimizer.zero_grad()
        entropy_of_mean(logits(context, confident)).sum().backward()
        optimizer.step()
        with torch.no_grad():
            predictions.append(logits(context, views[:, :1])[:, 0])
    return context.detach(), torch.stack(predictions, dim=1)
