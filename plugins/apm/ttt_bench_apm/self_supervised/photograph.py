"""A photograph as a network sees it, ready to be queried."""

import torch
from PIL import Image

from ttt_bench_apm.self_supervised.images import square, to_array, to_unit_range
from ttt_bench_apm.self_supervised.locations import Locations, lattice
from ttt_bench_apm.self_supervised.network import FieldValues, PerceptionField, query

DISPLAY_SIDE = 224


class Photograph:
    """A photograph's largest centred square before a network.

    Attributes:
        original: the whole photograph in RGB.
        network: the network that is queried.
        image: the network's input `[3 side side]`, from 0 to 1.
        trigger: the trigger column of the image.
        display: the square at up to 224 pixels, `[rows columns 3]` from 0 to 1, to be drawn.
        input_display: the network's input, to be drawn.
    """

    def __init__(self, original: Image.Image, network: PerceptionField) -> None:
        self.original = original
        self.network = network
        device = next(network.parameters()).device
        side = min(*original.size, DISPLAY_SIDE)
        self.display = to_array(square(original, side) / 255)
        pixels = square(original, network.sizes.image)[None]  # (1, 3, S, S)
        self.image = to_unit_range(pixels)[0].to(device)
        self.input_display = to_array(self.image)
        with torch.no_grad():
            self.trigger = network.trigger(self.image[None])[0]  # (n,)

    def grid(self, points: int) -> Locations:
        """Return `points` x `points` locations over the whole image, row by row."""
        return lattice(self.network.sizes.grid, points, self.image.device)

    def query(self, locations: Locations, chunk: int = 1024) -> FieldValues:
        """Return the field at locations, `chunk` of them computed together."""
        return query(self.network, self.trigger, locations, chunk)
