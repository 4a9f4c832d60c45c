"""The fixed sine/cosine code of positions along an axis, used by both networks."""

import math

import torch
from jaxtyping import Float, Real
from torch import Tensor


def position_code(
    positions: Real[Tensor, " positions"], size: int
) -> Float[Tensor, "positions {size}"]:
    """Return the code of positions: entry 2i is a sine, entry 2i+1 its cosine.

    The frequencies are exp(-ln(10000) * 2i / size) (arXiv 2410.20535, section 3).

    Args:
        positions: in cells of a grid; fractions of a cell are allowed.
        size: numbers per position.

    Raises:
        ValueError: `size` is odd.
    """
    if size % 2:
        raise ValueError(f"a sine/cosine code has an even size, not {size}")
    even = torch.arange(0, size, 2, device=positions.device)
    frequencies = torch.exp(-math.log(10000.0) * even / size)  # (size/2,)
    angles = positions[:, None] * frequencies  # (positions, size/2)
    # (positions, size/2, 2) -> (positions, size)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
