"""Matrix products whose rounding does not depend on how many samples are stacked."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Matrix kernels compute an incomplete tile in a way that depends on the size of the batch.
TILE = 4


def batch_invariant_matmul(
    left: Float[Tensor, "samples rows inner"], right: Float[Tensor, "*samples inner columns"]
) -> Float[Tensor, "samples rows columns"]:
    """Return `left @ right` for each sample, bit for bit the same alone and in a batch.

    A plain matmul folds a batch into one large product, and kernels for few or odd rows differ
    between one sample and several. Here every sample has a product of its own, padded with zeros
    to whole tiles.

    Args:
        left: one matrix for each sample.
        right: one matrix for each sample, or a single one for all of them.
    """
    rows, columns = left.shape[1], right.shape[-1]
    if rows % TILE:
        left = F.pad(left, (0, 0, 0, -rows % TILE))  # (samples, padded rows, inner)
    if columns % TILE:
        right = F.pad(right, (0, -columns % TILE))  # (*samples, inner, padded columns)
    product = torch.bmm(left, right.expand(len(left), -1, -1))
    return product[:, :rows, :columns]  # (samples, rows, columns)
