"""What the network should answer at locations: the teacher's features and the image's colours."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ttt_bench_apm.self_supervised.locations import Locations, lattice


def features_at(
    patches: Float[Tensor, "batch rows columns dim"], cells: int, locations: Locations
) -> Float[Tensor, "batch locations dim"]:
    """The teacher's features, linear between the centres of its patches.

    Args:
        cells: of the network's grid per side, the units of the locations.
    """
    scaled = (locations.flip(1) + 0.5) * (2 / cells) - 1
    return _sample(patches.permute(0, 3, 1, 2), scaled, corners=False)


def colours_at(
    images: Float[Tensor, "batch 3 side side"], patch: int, locations: Locations
) -> Float[Tensor, "batch locations 3"]:
    """The mean colour of the window of a cell's size around each location, moved inside the image.

    At whole numbers these are the released targets, `average_colours`.
    """
    windows = F.avg_pool2d(images, patch, stride=1)
    scaled = locations.flip(1) * (2 * patch / (windows.shape[-1] - 1)) - 1
    return _sample(windows, scaled, corners=True)


def average_colours(
    images: Float[Tensor, "batch 3 side side"], patch: int
) -> Float[Tensor, "batch locations 3"]:
    """The mean colour of every cell, row by row."""
    return F.avg_pool2d(images, patch).flatten(2).mT


def _sample(
    maps: Float[Tensor, "batch dim rows columns"],
    points: Float[Tensor, "locations 2"],
    corners: bool,
) -> Float[Tensor, "batch locations dim"]:
    grid = points.to(maps.dtype).expand(len(maps), 1, -1, -1)
    sampled = F.grid_sample(maps, grid, padding_mode="border", align_corners=corners)
    return sampled[:, :, 0].mT


def random_locations(
    cells: int, rows: int, count: int, generator: torch.Generator
) -> Float[Tensor, "{count} 2"]:
    """Half of them centres of the teacher's rows x rows patches, half uniform over the image."""
    centres = lattice(cells, rows)
    chosen = torch.randint(len(centres), (count // 2,), generator=generator)
    anywhere = torch.rand(count - count // 2, 2, generator=generator) * cells - 0.5
    return torch.cat([centres[chosen], anywhere])
