"""Where a field is asked: points in units of the trigger's cells, whole numbers at cell centres."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

Locations = Float[Tensor, "locations 2"]


def lattice(cells: int, points: int, device: torch.device | None = None) -> Locations:
    """`points` x `points` locations (y, x), row by row, spread evenly over a grid of cells.

    Each is the centre of its share of the image, so with as many points as cells the coordinates
    are the whole numbers that the release asks at.
    """
    axis = (torch.arange(points, device=device) + 0.5) * (cells / points) - 0.5
    return torch.cartesian_prod(axis, axis)


def from_fractions(cells: int, fractions: Float[Tensor, "locations 2"]) -> Locations:
    """Locations from (y, x) as fractions of the image's height and width, 0 at the top left."""
    return fractions * cells - 0.5


def position_code(
    positions: Float[Tensor, " positions"], size: int
) -> Float[Tensor, "positions {size}"]:
    """The sine/cosine code along one axis, at any positions, fractions of a cell among them.

    At whole numbers it is `ttt_bench_apm.position_code.axis_code` (arXiv 2410.20535, section 3).
    """
    steps = torch.arange(0, size, 2, device=positions.device)
    frequency = torch.exp(-math.log(10000.0) * steps / size)
    angle = positions[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
