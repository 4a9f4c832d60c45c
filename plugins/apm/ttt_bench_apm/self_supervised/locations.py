"""Locations at which a field is queried: in units of the trigger's cells, whole at cell centres."""

import torch
from jaxtyping import Float
from torch import Tensor

Locations = Float[Tensor, "locations 2"]


def lattice(cells: int, points: int, device: torch.device | None = None) -> Locations:
    """Return `points` x `points` locations (y, x), row by row, spread evenly over the image.

    Each is the centre of its share of the image, so with as many points as cells the coordinates
    are the whole numbers that the release queries.

    Args:
        cells: cells of the network's grid per side.
        points: locations per side.
        device: the device of the result; None for the CPU.
    """
    axis = (torch.arange(points, device=device) + 0.5) * (cells / points) - 0.5  # (points,)
    return torch.cartesian_prod(axis, axis)  # (points*points, 2)


def from_fractions(cells: int, fractions: Float[Tensor, "locations 2"]) -> Locations:
    """Return the locations of (y, x) given as fractions of the image, 0 at the top left.

    Args:
        cells: cells of the network's grid per side.
        fractions: of the image's height and width, from 0 to 1.
    """
    return fractions * cells - 0.5
