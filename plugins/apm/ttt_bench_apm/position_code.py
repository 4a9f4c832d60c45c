"""The fixed sine/cosine position code of a grid."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def axis_code(length: int, size: int) -> Float[Tensor, "{length} {size}"]:
    """The code of positions 0 to length-1 along one axis: entry 2i is a sine, 2i+1 its cosine.

    The frequencies are exp(-ln(10000) * 2i / size) (arXiv 2410.20535, section 3).

    Raises:
        ValueError: `size` is odd.
    """
    if size % 2:
        raise ValueError(f"a sine/cosine code has an even size, not {size}")
    frequency = torch.exp(-math.log(10000.0) * torch.arange(0, size, 2) / size)
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
