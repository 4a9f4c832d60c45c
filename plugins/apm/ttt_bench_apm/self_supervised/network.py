"""The self-supervised APM, asked at any locations, in a folded form.

The plain form sends [trigger ; position code] of every location through every layer
(tests/oracles/apm_ssl.py has it). The trigger is the same for all locations and the code is
[column | row], so here the first layer of the field and that of the colours are one product for the
image, one for each distinct column and one for each distinct row, added. Nothing else is shared
between locations, which is why they can be asked in any order and number.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ttt_bench_apm.self_supervised.locations import Locations, position_code

# A colour starts as middle grey: the last layer is rectified too, and one that starts at zero can
# stay there.
GREY = 0.5


@dataclass(frozen=True)
class FieldSizes:
    """What the network is built of; the defaults are the released sizes.

    Attributes:
        grid: cells of the trigger per side.
        patch: side in pixels of a cell.
        channels: numbers that the trigger has for each cell.
        code: d, the size of the position code.
        widths: of the hidden layers.
        features: the size of the teacher's patch feature.
        colour: the width of the colour head.
    """

    grid: int = 32
    patch: int = 14
    channels: int = 1
    code: int = 1024
    widths: tuple[int, ...] = (4096, 4096, 4096, 2048, 1024)
    features: int = 1024
    colour: int = 256

    @property
    def image(self) -> int:
        """Side in pixels of the input."""
        return self.grid * self.patch

    @property
    def trigger(self) -> int:
        """How many numbers the trigger column has."""
        return self.channels * self.grid**2


class PerceptionField(nn.Module):
    """APM that imitates a teacher's grid of patch features and decodes colours from them.

    Parameters have the names of the authors' checkpoint. Source: arXiv 2410.20535, section 4.3, and
    its release.
    """

    def __init__(self, sizes: FieldSizes) -> None:
        super().__init__()
        self.sizes = sizes
        query = sizes.trigger + sizes.code
        self.conv1 = nn.Conv2d(3, sizes.channels, sizes.patch, stride=sizes.patch)
        widths = (query, *sizes.widths)
        for layer in range(len(sizes.widths)):
            self.add_module(f"fc{layer + 1}", nn.Linear(widths[layer], widths[layer + 1]))
        self.feat_proj_head = nn.Linear(widths[-1], sizes.features)
        self.rgb_head_1 = nn.Linear(sizes.features + query, sizes.colour)
        self.rgb_head_2 = nn.Linear(sizes.colour, sizes.colour)
        self.rgb_head_3 = nn.Linear(sizes.colour, 3)
        nn.init.constant_(self.rgb_head_3.bias, GREY)

    def trigger(self, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch trigger"]:
        """T, the column that every location asks: all the network sees of an image.

        Args:
            images: RGB, each scaled from 0 to 1 (`images.to_unit_range`).
        """
        return self.conv1(images).flatten(1)

    def field(
        self, trigger: Float[Tensor, "batch trigger"], locations: Locations
    ) -> Float[Tensor, "batch locations features"]:
        """The features at locations."""
        hidden = self._unfold(self._layer("fc1"), 0, trigger, locations).relu_()
        for layer in range(1, len(self.sizes.widths)):
            hidden = self._layer(f"fc{layer + 1}")(hidden).relu_()
        return self.feat_proj_head(hidden)

    def rgb(
        self,
        trigger: Float[Tensor, "batch trigger"],
        locations: Locations,
        features: Float[Tensor, "batch locations features"],
    ) -> Float[Tensor, "batch locations 3"]:
        """The colours at locations, from their features and the queries themselves."""
        layer, own = self.rgb_head_1, self.sizes.features
        hidden = self._unfold(layer, own, trigger, locations)
        hidden = (hidden + F.linear(features, layer.weight[:, :own])).relu_()
        hidden = self.rgb_head_2(hidden).relu_()
        return self.rgb_head_3(hidden).relu_()

    def _layer(self, name: str) -> nn.Linear:
        return cast(Any, getattr(self, name))

    def _unfold(
        self, layer: nn.Linear, start: int, trigger: Tensor, locations: Locations
    ) -> Float[Tensor, "batch locations width"]:
        """A layer on the queries [trigger ; column | row], which are its inputs from `start` on."""
        parts = (start, self.sizes.trigger, self.sizes.code // 2, self.sizes.code // 2)
        _, for_trigger, for_column, for_row = layer.weight.split(parts, dim=1)
        shared = F.linear(trigger, for_trigger, layer.bias)
        (rows, of_row), (columns, of_column) = (
            axis.unique(return_inverse=True) for axis in locations.T
        )
        # In double precision where there is any, so that what a location adds does not depend,
        # through rounding, on how many others were asked with it.
        wide = torch.float32 if layer.weight.device.type == "mps" else torch.float64
        by_row, by_column = (
            F.linear(position_code(axis.to(wide), self.sizes.code // 2), weight.to(wide)).to(
                shared.dtype
            )
            for axis, weight in ((rows, for_row), (columns, for_column))
        )
        return shared[:, None] + (by_row[of_row] + by_column[of_column])


@dataclass(frozen=True)
class Percept:
    """What a field answers at locations: features `[... locations dim]`, colours in RGB."""

    features: Float[Tensor, "*batch locations dim"]
    rgb: Float[Tensor, "*batch locations 3"]


@torch.no_grad()
def ask(
    network: PerceptionField,
    trigger: Float[Tensor, " trigger"],
    locations: Locations,
    chunk: int = 1024,
) -> Percept:
    """Features and colours of one image at any locations, `chunk` of them at a time."""
    features, colours = [], []
    for part in locations.split(chunk):
        features.append(network.field(trigger[None], part)[0])
        colours.append(network.rgb(trigger[None], part, features[-1][None])[0])
    return Percept(torch.cat(features), torch.cat(colours))
