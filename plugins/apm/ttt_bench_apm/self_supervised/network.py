"""The self-supervised APM's network, queried at any locations, in a folded form.

The plain form sends [trigger ; position code] of every location through every layer
(tests/oracles/apm_ssl.py). The trigger is the same at all locations and the code is [column | row].
So the first layer of the field and that of the colours are one product for the image, one for each
distinct column and one for each distinct row, added. Locations share nothing else and can be
queried in any order and number.

Shapes: B images, L locations, n numbers of the trigger, d numbers of the position code, D features.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ttt_bench_apm.position_code import position_code
from ttt_bench_apm.self_supervised.locations import Locations

# A colour starts as middle grey: the last layer is rectified too, and one that starts at zero can
# stay there.
GREY = 0.5


@dataclass(frozen=True)
class FieldSizes:
    """The sizes of the network; the defaults are the released ones.

    Attributes:
        grid: cells of the trigger per side.
        patch: side in pixels of a cell.
        channels: numbers of the trigger for each cell.
        code: d, the size of the position code.
        widths: widths of the hidden layers.
        features: D, the size of the teacher's patch feature.
        colour: width of the hidden layers of the colour head.
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
        """n, the size of the trigger column."""
        return self.channels * self.grid**2


class PerceptionField(nn.Module):
    """A network that predicts a teacher's patch feature and a colour at any location of an image.

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
        """Return the trigger column T, all that the network sees of an image.

        Args:
            images: RGB, each scaled from 0 to 1 (`images.to_unit_range`).
        """
        # (B, 3, S, S) -> (B, channels, grid, grid) -> (B, n)
        return self.conv1(images).flatten(1)

    def field(
        self, trigger: Float[Tensor, "batch trigger"], locations: Locations
    ) -> Float[Tensor, "batch locations features"]:
        """Return the features at locations.

        Args:
            trigger: the trigger column of each image.
            locations: the same for all images.
        """
        hidden = self._unfold(self._layer(1), 0, trigger, locations).relu_()
        for layer in range(1, len(self.sizes.widths)):
            hidden = self._layer(layer + 1)(hidden).relu_()
        return self.feat_proj_head(hidden)

    def rgb(
        self,
        trigger: Float[Tensor, "batch trigger"],
        locations: Locations,
        features: Float[Tensor, "batch locations features"],
    ) -> Float[Tensor, "batch locations 3"]:
        """Return the colours at locations.

        Args:
            trigger: the trigger column of each image.
            locations: the same for all images.
            features: the field at these locations.
        """
        layer, size = self.rgb_head_1, self.sizes.features
        # The layer's inputs are [feature ; trigger ; position code].
        hidden = self._unfold(layer, size, trigger, locations)
        hidden = (hidden + F.linear(features, layer.weight[:, :size])).relu_()
        hidden = self.rgb_head_2(hidden).relu_()
        return self.rgb_head_3(hidden).relu_()

    def _layer(self, number: int) -> nn.Linear:
        return cast(nn.Linear, self.get_submodule(f"fc{number}"))

    def _unfold(
        self, layer: nn.Linear, start: int, trigger: Tensor, locations: Locations
    ) -> Float[Tensor, "batch locations width"]:
        """Apply a layer to the queries [trigger ; column | row], its inputs from `start` on."""
        half = self.sizes.code // 2
        parts = (start, self.sizes.trigger, half, half)
        # (width, n), (width, d/2), (width, d/2)
        _, for_trigger, for_column, for_row = layer.weight.split(parts, dim=1)
        shared = F.linear(trigger, for_trigger, layer.bias)  # (B, width)
        # Distinct coordinates, and the index (L,) of each location's among them.
        rows, row_index = locations[:, 0].unique(return_inverse=True)
        columns, column_index = locations[:, 1].unique(return_inverse=True)
        # In double precision where there is any: then the rounding of a location's sum does not
        # depend on how many others are queried with it.
        wide = torch.float32 if layer.weight.device.type == "mps" else torch.float64
        # (distinct, d/2) -> (distinct, width)
        by_row, by_column = (
            F.linear(position_code(axis.to(wide), half), weight.to(wide)).to(shared.dtype)
            for axis, weight in ((rows, for_row), (columns, for_column))
        )
        # (B, 1, width) + (L, width) -> (B, L, width)
        return shared[:, None] + (by_row[row_index] + by_column[column_index])


@dataclass(frozen=True)
class FieldValues:
    """The field of one image at locations.

    Attributes:
        features: predictions of the teacher's patch feature.
        rgb: colours, on the scale of the network's input.
    """

    features: Float[Tensor, "locations dim"]
    rgb: Float[Tensor, "locations 3"]


@torch.no_grad()
def query(
    network: PerceptionField,
    trigger: Float[Tensor, " trigger"],
    locations: Locations,
    chunk: int = 1024,
) -> FieldValues:
    """Return features and colours of one image at any locations.

    Args:
        network: the network.
        trigger: the trigger column of the image.
        locations: where to query the field.
        chunk: locations that are computed together, which bounds the memory.
    """
    features, colours = [], []
    for part in locations.split(chunk):
        field = network.field(trigger[None], part)  # (1, part, D)
        features.append(field[0])
        colours.append(network.rgb(trigger[None], part, field)[0])  # (part, 3)
    return FieldValues(torch.cat(features), torch.cat(colours))
