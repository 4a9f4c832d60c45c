"""The APM network in its folded form: many samples at once, each with weights of its own.

It computes what the plain network does (every location's query through every layer, then an
attention of one learned query; tests/oracles/apm.py has it) up to rounding, far cheaper:

* The trigger column T is shared by all locations, so its half of the first layer is one product.
* The position code is [column | row], so its half is one product per column plus one per row.
* One query attends: folded into the key projection and the feature head, it scores the last hidden
  layer directly, and the hidden layer is averaged before the feature head, not after. What is
  constant over locations (the key bias among it) cancels in the softmax, so there is no such
  parameter here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ttt_bench import batch_invariant_matmul
from ttt_bench_apm.position_code import axis_code

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """The sizes of the network.

    Attributes:
        grid: locations per side, h = w.
        patch: side in pixels of the trigger convolution's kernel and stride.
        widths: of the three hidden layers.
        features: D, the size of the teacher's feature.
        heads: of the pooling attention; 0 pools by the mean.
    """

    grid: int
    patch: int
    widths: tuple[int, int, int]
    features: int
    heads: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter of one sample, in the order they are drawn."""
        d, size = self.grid * self.grid, self.features
        first, second, third = self.widths
        shapes: dict[str, tuple[int, ...]] = {
            "trigger": (3 * self.patch * self.patch,),
            "trigger_bias": (1,),
            "fc1_trigger": (first, d),
            "fc1_column": (first, d // 2),
            "fc1_row": (first, d - d // 2),
            "fc1_bias": (first,),
            "fc2": (second, first),
            "fc2_bias": (second,),
            "fc3": (third, second),
            "fc3_bias": (third,),
            "head": (size, third),
            "head_bias": (size,),
        }
        if self.heads:
            shapes |= {
                "query": (size,),
                "to_query": (size, size),
                "to_query_bias": (size,),
                "to_key": (size, size),
                "to_value": (size, size),
                "to_value_bias": (size,),
                "output": (size, size),
                "output_bias": (size,),
            }
        return shapes


class Network:
    """The APM network without weights: its functions take the stacked weights of B samples."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        self.sizes = sizes
        # The code of columns equals that of rows: the grid is square.
        self.query_code = axis_code(sizes.grid, sizes.grid**2 // 2).to(device)
        self.field_code = axis_code(sizes.grid, sizes.features // 2).to(device)

    def draw(
        self, generators: Sequence[torch.Generator], std: float, device: torch.device
    ) -> dict[str, Tensor]:
        """Fresh weights from N(0, std^2), biases and query included, a stack over samples."""
        drawn = [
            {name: torch.randn(shape, generator=g) for name, shape in self.sizes.shapes().items()}
            for g in generators
        ]
        return {
            name: (torch.stack([one[name] for one in drawn]) * std).to(device).requires_grad_()
            for name in self.sizes.shapes()
        }

    def hidden(
        self, weights: Weights, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch third locations"]:
        """The last hidden layer at every location, row by row.

        Locations stand last and weights first in every product: that way the gradient of a weight
        comes out in the weight's own layout, and nothing large is copied.
        """
        code = self.query_code.T
        # A convolution whose stride is its kernel: weights times patches.
        patches = F.unfold(images, self.sizes.patch, stride=self.sizes.patch)
        trigger = torch.bmm(weights["trigger"][:, None], patches) + weights["trigger_bias"][:, None]
        # A lone vector stands in front of its matrix and is no transposed view, here or on the way
        # back: else a stack of one sample takes another kernel, which rounds in another way.
        shared = torch.bmm(trigger, weights["fc1_trigger"].mT)[:, 0] + weights["fc1_bias"]
        rows = batch_invariant_matmul(weights["fc1_row"], code)
        columns = batch_invariant_matmul(weights["fc1_column"], code)
        # The large sums are not needed once rectified: in place.
        first = ((shared[:, :, None] + rows)[..., None] + columns[:, :, None]).relu_().flatten(2)
        second = torch.baddbmm(weights["fc2_bias"][:, :, None], weights["fc2"], first).relu_()
        return torch.baddbmm(weights["fc3_bias"][:, :, None], weights["fc3"], second).relu_()

    def field(
        self, weights: Weights, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch locations dim"]:
        """The feature of every location, row by row: what islands of agreement are drawn from."""
        return self._feature(weights, self.hidden(weights, images)).mT

    def __call__(
        self, weights: Weights, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch dim"]:
        """The pooled feature, APM's guess of the teacher's."""
        hidden = self.hidden(weights, images)
        if not self.sizes.heads:
            mean = hidden.mean(dim=2)[:, None]
            return batch_invariant_matmul(mean, weights["head"].mT)[:, 0] + weights["head_bias"]
        return self._attend(weights, hidden)

    def _feature(
        self, weights: Weights, hidden: Float[Tensor, "batch third columns"]
    ) -> Float[Tensor, "batch dim columns"]:
        return torch.baddbmm(weights["head_bias"][:, :, None], weights["head"], hidden)

    def _attend(
        self, weights: Weights, hidden: Float[Tensor, "batch third locations"]
    ) -> Float[Tensor, "batch dim"]:
        heads, grid, code = self.sizes.heads, self.sizes.grid, self.field_code
        batch, size = len(hidden), self.sizes.features
        half, width = size // 2, size // heads

        query = batch_invariant_matmul(weights["query"][:, None], weights["to_query"].mT)[:, 0]
        query = (query + weights["to_query_bias"]) / width**0.5
        # One vector per head scores a location's feature, another its hidden layer.
        key = weights["to_key"].view(batch * heads, width, size)
        for_feature = batch_invariant_matmul(query.reshape(batch * heads, 1, width), key)
        for_feature = for_feature.view(batch, heads, size)
        for_hidden = torch.bmm(for_feature, weights["head"])
        by_column = batch_invariant_matmul(for_feature[..., :half], code.T)
        by_row = batch_invariant_matmul(for_feature[..., half:], code.T)
        positions = (by_row[..., :, None] + by_column[..., None, :]).flatten(2)
        attention = (torch.bmm(for_hidden, hidden) + positions).softmax(dim=2)

        # What each head sees: the averaged hidden layer through the feature head, plus the code.
        on_grid = attention.view(batch, heads, grid, grid)
        of_column, of_row = on_grid.sum(dim=2), on_grid.sum(dim=3)
        seen_code = torch.cat(
            [batch_invariant_matmul(of_column, code), batch_invariant_matmul(of_row, code)], dim=2
        )
        averaged = torch.bmm(hidden, attention.mT)
        seen = self._feature(weights, averaged).mT + seen_code
        value = weights["to_value"].view(batch * heads, width, size)
        pooled = batch_invariant_matmul(seen.reshape(batch * heads, 1, size), value.mT)
        pooled = pooled.reshape(batch, 1, size) + weights["to_value_bias"][:, None]
        return batch_invariant_matmul(pooled, weights["output"].mT)[:, 0] + weights["output_bias"]
