"""Initial weights of tiny-apm: at every location the network reads the pixels around it.

Drawn at random, a network of this size does not learn within minutes that a location's feature
depends on the pixels there: after 400 steps at the teacher's patches its error is 1.2 times below
the mean field's, from these weights 2.6 times. Nothing here is learned from the teacher.

* The trigger's channels are the first principal components of a cell, with unit variance.
* A unit of the first layer passes one number of the trigger. The unit's part of the position code
  opens it near that number's cell and closes it elsewhere.
* The second layer starts with the same random weights for every patch of the teacher.
"""

import math

import torch
import torch.nn.functional as F
from ttt_bench_apm.self_supervised.images import to_unit_range
from ttt_bench_apm.self_supervised.locations import lattice
from ttt_bench_apm.self_supervised.network import PerceptionField

# The code's part of a unit's input, in standard deviations of its trigger number: +OPEN at an
# open cell, which is hardly ever rectified then, and -OPEN at a closed one, which nearly always is.
OPEN = 4.0


@torch.no_grad()
def start(network: PerceptionField, images: torch.Tensor, rows: int) -> None:
    """Set the trigger and the first two layers, in place.

    Args:
        network: the network.
        images: uint8 `[N 3 side side]`.
        rows: the teacher's patches per side.
    """
    sizes = network.sizes
    numbers, half = sizes.trigger, sizes.code // 2
    assert sizes.widths[0] == numbers, "one unit of the first layer for each number of the trigger"
    # (N, 3*p*p, cells) -> (N, cells, 3*p*p) -> (N*cells, 3*p*p)
    patches = F.unfold(to_unit_range(images), sizes.patch, stride=sizes.patch).mT.flatten(0, 1)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    kernels = (vectors / values.sqrt()).flip(1)[:, : sizes.channels].T  # (channels, 3*p*p)
    network.conv1.weight.copy_(kernels.reshape(network.conv1.weight.shape))
    network.conv1.bias.copy_(-kernels @ patches.mean(0))

    bump = Bump(half)
    # A patch's centre lies between its cells; one cell further belongs to another patch.
    within = sizes.grid / rows / 2 - 0.5
    open_, closed = 2 * bump.height(within), bump.height(within) + bump.height(within + 1)
    scale = 2 * OPEN / (open_ - closed)
    cells = lattice(sizes.grid, sizes.grid).repeat(sizes.channels, 1)  # (numbers, 2)
    position = torch.cat([bump.code(cells[:, 1]), bump.code(cells[:, 0])], dim=1)  # (numbers, d)
    first, second = network.get_submodule("fc1"), network.get_submodule("fc2")
    first.weight.copy_(torch.cat([torch.eye(numbers), scale * position], dim=1))
    first.bias.fill_(-scale * (open_ + closed) / 2)

    side = sizes.grid // rows
    inputs = sizes.channels * side**2
    # (width, channels, side, side), the weights for one patch of the teacher
    weights = torch.randn(sizes.widths[1], sizes.channels, side, side) * (2 / inputs) ** 0.5
    # -> (width, channels, grid, grid) -> (width, numbers)
    second.weight.copy_(weights.repeat(1, 1, rows, rows).flatten(1))
    second.bias.copy_(-OPEN * weights.sum((1, 2, 3)))


class Bump:
    """A function of the distance along an axis, high near 0, made of the code's cosines."""

    def __init__(self, size: int) -> None:
        self.frequencies = torch.exp(-math.log(10000.0) * torch.arange(0, size, 2) / size)
        distance = torch.linspace(-16, 16, 400)
        cosines = torch.cos(distance[:, None] * self.frequencies)
        target = torch.exp(-(distance**2) / (2 * 1.3**2))
        self.amplitudes = torch.linalg.solve(
            cosines.T @ cosines + torch.eye(size // 2), cosines.T @ target
        )

    def height(self, distance: float) -> float:
        """Return the function's value."""
        return (self.amplitudes * torch.cos(distance * self.frequencies)).sum().item()

    def code(self, centres: torch.Tensor) -> torch.Tensor:
        """Return weights `[centres size]` that turn a location's code into its height."""
        angle = centres[:, None] * self.frequencies
        # (centres, size/2, 2) -> (centres, size)
        weights = torch.stack([angle.sin(), angle.cos()], dim=2) * self.amplitudes[:, None]
        return weights.flatten(1)
