"""Products for methods that stack samples: no sample's rounding tells how many came together."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Matrix kernels treat what is left of a tile in a way that depends on the size of the stack.
TILE = 4


def batch_invariant_matmul(
    left: Float[Tensor, "samples rows inner"], right: Float[Tensor, "*samples inner columns"]
) -> Float[Tensor, "samples rows columns"]:
    """`left @ right` for each sample; `right` may be shared by all of them.

    A plain matmul would fold a stack into one large product, and kernels for few or odd rows differ
    between one sample and several. Here every sample has a product of its own, filled up with zeros
    to whole tiles.
    """
    rows, columns = left.shape[1], right.shape[-1]
    if rows % TILE:
        left = F.pad(left, (0, 0, 0, -rows % TILE))
    if columns % TILE:
        right = F.pad(right, (0, -columns % TILE))
    return torch.bmm(left, right.expand(len(left), -1, -1))[:, :rows, :columns]
