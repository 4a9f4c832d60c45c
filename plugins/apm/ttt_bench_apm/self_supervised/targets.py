"""Training targets at locations: the teacher's features and the image's colours."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ttt_bench_apm.self_supervised.locations import Locations, lattice


def features_at(
    patches: Float[Tensor, "batch rows columns dim"], cells: int, locations: Locations
) -> Float[Tensor, "batch locations dim"]:
    """Return the teacher's features at locations, linear between the centres of its patches.

    Args:
        patches: the teacher's patch features.
        cells: cells of the network's grid per side, the units of the locations.
        locations: the same for all images.
    """
    # From cells to -1 ... 1 over the image, and from (y, x) to (x, y).
    points = (locations.flip(1) + 0.5) * (2 / cells) - 1
    maps = patches.permute(0, 3, 1, 2)  # (B, rows, columns, D) -> (B, D, rows, columns)
    return _sample(maps, points, corners=False)


def colours_at(
    images: Float[Tensor, "batch 3 side side"], patch: int, locations: Locations
) -> Float[Tensor, "batch locations 3"]:
    """Return the mean colour of the window around each location, moved inside the image.

    At whole numbers these are the released targets, `average_colours`.

    Args:
        images: the network's input.
        patch: side in pixels of a cell and of a window.
        locations: the same for all images.
    """
    windows = F.avg_pool2d(images, patch, stride=1)  # (B, 3, S - patch + 1, S - patch + 1)
    points = locations.flip(1) * (2 * patch / (windows.shape[-1] - 1)) - 1
    return _sample(windows, points, corners=True)


def average_colours(
    images: Float[Tensor, "batch 3 side side"], patch: int
) -> Float[Tensor, "batch locations 3"]:
    """Return the mean colour of every cell, row by row.

    Args:
        images: the network's input.
        patch: side in pixels of a cell.
    """
    # (B, 3, grid, grid) -> (B, 3, L) -> (B, L, 3)
    return F.avg_pool2d(images, patch).flatten(2).mT


def _sample(
    maps: Float[Tensor, "batch dim rows columns"],
    points: Float[Tensor, "locations 2"],
    corners: bool,
) -> Float[Tensor, "batch locations dim"]:
    """Interpolate maps at points (x, y) from -1 to 1; see `align_corners` for `corners`."""
    grid = points.to(maps.dtype).expand(len(maps), 1, -1, -1)  # (B, 1, L, 2)
    # (B, D, 1, L)
    sampled = F.grid_sample(maps, grid, padding_mode="border", align_corners=corners)
    return sampled[:, :, 0].mT  # (B, D, L) -> (B, L, D)


def random_locations(
    cells: int, rows: int, count: int, generator: torch.Generator
) -> Float[Tensor, "{count} 2"]:
    """Draw locations: half are centres of the teacher's patches, half uniform over the image.

    Args:
        cells: cells of the network's grid per side.
        rows: the teacher's patches per side.
        count: the number of locations.
        generator: the random generator.
    """
    centres = lattice(cells, rows)
    chosen = torch.randint(len(centres), (count // 2,), generator=generator)
    uniform = torch.rand(count - count // 2, 2, generator=generator) * cells - 0.5
    return torch.cat([centres[chosen], uniform])  # (count, 2)
