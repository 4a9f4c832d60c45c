"""Cross entropies between two predictions."""

from jaxtyping import Float
from torch import Tensor


def cross_entropy(
    target: Float[Tensor, "batch classes"], logits: Float[Tensor, "batch classes"]
) -> Float[Tensor, " batch"]:
    """Return the cross entropy of a prediction under a target's probabilities, in nats.

    Args:
        target: logits of the target.
        logits: logits of the prediction.
    """
    return -(target.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)


def symmetric_cross_entropy(
    one: Float[Tensor, "batch classes"], other: Float[Tensor, "batch classes"]
) -> Float[Tensor, " batch"]:
    """Return the mean of both cross entropies of two predictions, given as logits, in nats."""
    return 0.5 * cross_entropy(one, other) + 0.5 * cross_entropy(other, one)
