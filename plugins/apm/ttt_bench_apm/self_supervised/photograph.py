"""One photograph before a network: what is shown of it, what the network sees, what it answers."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ttt_bench_apm.self_supervised.images import square, to_unit_range
from ttt_bench_apm.self_supervised.locations import Locations, lattice
from ttt_bench_apm.self_supervised.network import Percept, PerceptionField, ask

SHOWN = 224


class Subject:
    """A photograph's largest centred square.

    Attributes:
        photograph: `[rows columns 3]` in [0, 1], to be shown.
        image: `[3 side side]`, the network's input.
        trigger: the column that every location asks.
    """

    def __init__(self, photograph: Image.Image, network: PerceptionField) -> None:
        self.original = photograph
        self.network = network
        device = next(network.parameters()).device
        shown = square(photograph, SHOWN) if min(photograph.size) > SHOWN else None
        side = min(photograph.size)
        self.photograph = to_array((square(photograph, side) if shown is None else shown) / 255)
        self.image = to_unit_range(square(photograph, network.sizes.image)[None])[0].to(device)
        with torch.no_grad():
            self.trigger = network.trigger(self.image[None])[0]

    @property
    def seen(self) -> np.ndarray:
        """The input as rows and columns of colours."""
        return to_array(self.image)

    def grid(self, points: int) -> Locations:
        """`points` x `points` locations over the whole image."""
        return lattice(self.network.sizes.grid, points, self.image.device)

    def ask(self, locations: Locations, chunk: int = 1024) -> Percept:
        """What the network answers there."""
        return ask(self.network, self.trigger, locations, chunk)


def to_array(image: Tensor) -> np.ndarray:
    """`[3 rows columns]` as rows, columns and colours."""
    return image.permute(1, 2, 0).cpu().numpy()
