"""Where the training of tiny-apm starts: at every location the network reads the pixels around it.

Drawn at random, a network of this size does not learn within minutes that what a location shows
depends on the pixels there: after 400 steps at the teacher's patches its error is 1.2 times below
the mean field's, from here 2.6 times. Nothing here is learned from the teacher.

* The trigger's channels are the first principal components of a cell, with unit variance.
* A unit of the first layer passes one number of the trigger. The unit's part of the position code
  opens it near that number's cell and shuts it elsewhere.
* The second layer starts with the same random weights for every patch of the teacher.
"""

import math

import torch
import torch.nn.functional as F
from ttt_bench_apm.self_supervised.images import to_unit_range
from ttt_bench_apm.self_supervised.locations import lattice
from ttt_bench_apm.self_supervised.network import PerceptionField

# What the code adds to a unit of an open cell, and takes off a shut one's, in its own standard
# deviations: it hardly ever rectifies the first, and nearly always the second.
OPEN = 4.0


@torch.no_grad()
def start(network: PerceptionField, images: torch.Tensor, rows: int) -> None:
    """Set the trigger and the first two layers, in place.

    Args:
        images: uint8 `[N 3 side side]`.
        rows: the teacher's patches per side.
    """
    sizes = network.sizes
    count, half = sizes.trigger, sizes.code // 2
    assert sizes.widths[0] == count, "one unit of the first layer for each number of the trigger"
    cut = F.unfold(to_unit_range(images), sizes.patch, stride=sizes.patch).mT.flatten(0, 1)
    values, vectors = torch.linalg.eigh(torch.cov(cut.T))
    kernels = (vectors / values.sqrt()).flip(1)[:, : sizes.channels].T
    network.conv1.weight.copy_(kernels.reshape(network.conv1.weight.shape))
    network.conv1.bias.copy_(-kernels @ cut.mean(0))

    hill = Hill(half)
    # A patch's centre lies between its cells; one cell further is another patch's.
    within = sizes.grid / rows / 2 - 0.5
    open_, shut = 2 * hill.height(within), hill.height(within) + hill.height(within + 1)
    scale = 2 * OPEN / (open_ - shut)
    cells = lattice(sizes.grid, sizes.grid).repeat(sizes.channels, 1)
    position = torch.cat([hill.code(cells[:, 1]), hill.code(cells[:, 0])], dim=1)
    first, second = network.get_submodule("fc1"), network.get_submodule("fc2")
    first.weight.copy_(torch.cat([torch.eye(count), scale * position], dim=1))
    first.bias.fill_(-scale * (open_ + shut) / 2)

    side = sizes.grid // rows
    numbers = sizes.channels * side**2
    one = torch.randn(sizes.widths[1], sizes.channels, side, side) * (2 / numbers) ** 0.5
    second.weight.copy_(one.repeat(1, 1, rows, rows).flatten(1))
    second.bias.copy_(-OPEN * one.sum((1, 2, 3)))


class Hill:
    """A function of the distance along an axis, high at 0, made of the position code's cosines."""

    def __init__(self, size: int) -> None:
        self.frequencies = torch.exp(-math.log(10000.0) * torch.arange(0, size, 2) / size)
        distance = torch.linspace(-16, 16, 400)
        cosines = torch.cos(distance[:, None] * self.frequencies)
        wanted = torch.exp(-(distance**2) / (2 * 1.3**2))
        self.amplitudes = torch.linalg.solve(
            cosines.T @ cosines + torch.eye(size // 2), cosines.T @ wanted
        )

    def height(self, distance: float) -> float:
        return (self.amplitudes * torch.cos(distance * self.frequencies)).sum().item()

    def code(self, centres: torch.Tensor) -> torch.Tensor:
        """Weights on the code of a location, whose sum is the height of its distance."""
        angle = centres[:, None] * self.frequencies
        both = torch.stack([angle.sin(), angle.cos()], dim=2) * self.amplitudes[:, None]
        return both.flatten(1)
