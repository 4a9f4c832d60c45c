"""APM's network for test-time training, folded: many samples at once, each with its own weights.

The plain form sends the query [T ; position code] of every location through three hidden layers and
a feature head, adds a position code to the features and pools them by the attention of one learned
query (arXiv 2410.20535, section 3, and its release; tests/oracles/apm.py). The folded form gives
the same numbers up to rounding, far cheaper:

* The trigger column T is the same at all locations: its half of the first layer is one product.
* The position code is [column | row]: its half is one product per column and one per row.
* A single query attends. Folded into the key projection and the feature head, it scores the last
  hidden layer directly, and the hidden layer is averaged before the feature head, not after it.
* A term that is constant over locations, such as the key bias, cancels in the softmax; the key bias
  is no parameter here.

Shapes: B samples, h rows and h columns of locations, L = h*h locations, d = h*h numbers in a
query's position code, k1, k2, k3 hidden widths, D features, H heads, W = D/H features per head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ttt_bench import UserError, batch_invariant_matmul
from ttt_bench_apm.position_code import position_code

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """The sizes of the network.

    Attributes:
        grid: h, locations per side.
        patch: side in pixels of a location's patch, the trigger convolution's kernel and stride.
        widths: k1, k2 and k3, the widths of the hidden layers.
        features: D, the size of the backbone's feature.
        heads: H, attention heads of the pooling; 0 pools by the mean.

    Raises:
        UserError: there is no network of these sizes.
    """

    grid: int
    patch: int
    widths: tuple[int, int, int]
    features: int
    heads: int

    def __post_init__(self) -> None:
        if self.grid % 2:
            raise UserError(f"APM: grid={self.grid} is odd; give an even number")
        if self.features % 4 or (self.heads and self.features % self.heads):
            raise UserError(
                f"APM: the backbone's features have size {self.features}, which is not a multiple "
                f"of 4 and of heads={self.heads}; give other heads or another --backbone"
            )

    @property
    def parameters(self) -> int:
        """The number of parameters of one sample."""
        return sum(torch.Size(shape).numel() for shape in self.shapes().values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter of one sample, in the order they are drawn."""
        d, features = self.grid * self.grid, self.features
        k1, k2, k3 = self.widths
        shapes: dict[str, tuple[int, ...]] = {
            "trigger": (3 * self.patch * self.patch,),
            "trigger_bias": (1,),
            "fc1_trigger": (k1, d),
            "fc1_column": (k1, d // 2),
            "fc1_row": (k1, d - d // 2),
            "fc1_bias": (k1,),
            "fc2": (k2, k1),
            "fc2_bias": (k2,),
            "fc3": (k3, k2),
            "fc3_bias": (k3,),
            "head": (features, k3),
            "head_bias": (features,),
        }
        if self.heads:
            shapes |= {
                "query": (features,),
                "to_query": (features, features),
                "to_query_bias": (features,),
                "to_key": (features, features),
                "to_value": (features, features),
                "to_value_bias": (features,),
                "output": (features, features),
                "output_bias": (features,),
            }
        return shapes


class Network:
    """The functions of the network; each takes the weights of a stack of B samples."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        self.sizes = sizes
        self.device = device
        # Rows and columns share a code: the grid is square.
        positions = torch.arange(sizes.grid)
        self.query_code = position_code(positions, sizes.grid**2 // 2).to(device)  # (h, d/2)
        self.field_code = position_code(positions, sizes.features // 2).to(device)  # (h, D/2)

    def draw(self, generators: Sequence[torch.Generator], std: float) -> dict[str, Tensor]:
        """Draw fresh weights from N(0, std^2), biases and the learned query included.

        Args:
            generators: the random generator of each sample.
            std: the standard deviation.

        Returns:
            Every parameter as (B, *shape).
        """
        samples = [
            {name: torch.randn(shape, generator=g) for name, shape in self.sizes.shapes().items()}
            for g in generators
        ]
        return self.stack(samples, std)

    def stack(self, drawn: Sequence[Weights], std: float) -> dict[str, Tensor]:
        """Scale standard normal numbers to weights, those of several samples together.

        Args:
            drawn: every parameter of each sample.
            std: the standard deviation.

        Returns:
            Every parameter as (B, *shape).
        """
        return {
            name: torch.stack([sample[name] for sample in drawn])
            .to(self.device)
            .mul_(std)
            .requires_grad_()
            for name in self.sizes.shapes()
        }

    def hidden(
        self, weights: Weights, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch k3 locations"]:
        """Return the last hidden layer at every location, row by row.

        Locations stand last and weights first in every product: the gradient of a weight then comes
        out in the weight's own layout, and nothing large is copied.
        """
        code = self.query_code.T  # (d/2, h)
        # A convolution whose stride is its kernel is a product of weights and patches.
        patches = F.unfold(images, self.sizes.patch, stride=self.sizes.patch)  # (B, 3*p*p, L)
        # (B, 1, 3*p*p) x (B, 3*p*p, L) -> (B, 1, L)
        trigger = torch.bmm(weights["trigger"][:, None], patches) + weights["trigger_bias"][:, None]
        # A lone vector stands in front of its matrix and is no transposed view, forward and
        # backward: a stack of one sample would take another kernel, with other rounding.
        # (B, 1, d) x (B, d, k1) -> (B, 1, k1) -> (B, k1)
        shared = torch.bmm(trigger, weights["fc1_trigger"].mT)[:, 0] + weights["fc1_bias"]
        rows = batch_invariant_matmul(weights["fc1_row"], code)  # (B, k1, h)
        columns = batch_invariant_matmul(weights["fc1_column"], code)  # (B, k1, h)
        # The large sums are not needed once rectified: in place.
        # (B, k1, h, 1) + (B, k1, 1, h) -> (B, k1, h, h) -> (B, k1, L)
        first = ((shared[:, :, None] + rows)[..., None] + columns[:, :, None]).relu_().flatten(2)
        # (B, k2, k1) x (B, k1, L) -> (B, k2, L)
        second = torch.baddbmm(weights["fc2_bias"][:, :, None], weights["fc2"], first).relu_()
        # (B, k3, k2) x (B, k2, L) -> (B, k3, L)
        return torch.baddbmm(weights["fc3_bias"][:, :, None], weights["fc3"], second).relu_()

    def field(
        self, weights: Weights, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch locations dim"]:
        """Return the feature of every location, row by row."""
        return self._features(weights, self.hidden(weights, images)).mT  # (B, D, L) -> (B, L, D)

    def __call__(
        self, weights: Weights, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the pooled feature, the prediction of the backbone's feature."""
        hidden = self.hidden(weights, images)
        if self.sizes.heads:
            return self._attend(weights, hidden)
        mean = hidden.mean(dim=2)[:, None]  # (B, 1, k3)
        # (B, 1, k3) x (B, k3, D) -> (B, 1, D) -> (B, D)
        return batch_invariant_matmul(mean, weights["head"].mT)[:, 0] + weights["head_bias"]

    def _features(
        self, weights: Weights, hidden: Float[Tensor, "batch k3 columns"]
    ) -> Float[Tensor, "batch dim columns"]:
        """Apply the feature head."""
        # (B, D, k3) x (B, k3, columns) -> (B, D, columns)
        return torch.baddbmm(weights["head_bias"][:, :, None], weights["head"], hidden)

    def _attend(
        self, weights: Weights, hidden: Float[Tensor, "batch k3 locations"]
    ) -> Float[Tensor, "batch dim"]:
        """Pool by the attention of the learned query to the features plus their position code."""
        heads, grid, code = self.sizes.heads, self.sizes.grid, self.field_code  # code: (h, D/2)
        batch, size = len(hidden), self.sizes.features
        half, width = size // 2, size // heads  # D/2, W

        # (B, 1, D) x (B, D, D) -> (B, 1, D) -> (B, D)
        query = batch_invariant_matmul(weights["query"][:, None], weights["to_query"].mT)[:, 0]
        query = (query + weights["to_query_bias"]) / width**0.5
        # The query folded into the key projection scores a location's feature; folded into the
        # feature head too, it scores the location's hidden layer.
        key = weights["to_key"].view(batch * heads, width, size)  # (B*H, W, D)
        # (B*H, 1, W) x (B*H, W, D) -> (B*H, 1, D)
        feature_query = batch_invariant_matmul(query.reshape(batch * heads, 1, width), key)
        feature_query = feature_query.view(batch, heads, size)  # (B, H, D)
        hidden_query = torch.bmm(feature_query, weights["head"])  # (B, H, k3)
        column_scores = batch_invariant_matmul(feature_query[..., :half], code.T)  # (B, H, h)
        row_scores = batch_invariant_matmul(feature_query[..., half:], code.T)  # (B, H, h)
        # (B, H, h, 1) + (B, H, 1, h) -> (B, H, h, h) -> (B, H, L)
        scores = (row_scores[..., :, None] + column_scores[..., None, :]).flatten(2)
        # (B, H, k3) x (B, k3, L) -> (B, H, L)
        attention = (torch.bmm(hidden_query, hidden) + scores).softmax(dim=2)

        # Each head averages the hidden layer, then applies the feature head and adds the code.
        on_grid = attention.view(batch, heads, grid, grid)  # (B, H, h, h)
        of_columns, of_rows = on_grid.sum(dim=2), on_grid.sum(dim=3)  # (B, H, h) each
        # (B, H, h) x (h, D/2), twice -> (B, H, D)
        average_code = torch.cat(
            [batch_invariant_matmul(of_columns, code), batch_invariant_matmul(of_rows, code)], dim=2
        )
        average = torch.bmm(hidden, attention.mT)  # (B, k3, L) x (B, L, H) -> (B, k3, H)
        keys = self._features(weights, average).mT + average_code  # (B, D, H) -> (B, H, D)
        value = weights["to_value"].view(batch * heads, width, size)  # (B*H, W, D)
        # (B*H, 1, D) x (B*H, D, W) -> (B*H, 1, W) -> (B, 1, D)
        pooled = batch_invariant_matmul(keys.reshape(batch * heads, 1, size), value.mT)
        pooled = pooled.reshape(batch, 1, size) + weights["to_value_bias"][:, None]
        # (B, 1, D) x (B, D, D) -> (B, 1, D) -> (B, D)
        return batch_invariant_matmul(pooled, weights["output"].mT)[:, 0] + weights["output_bias"]
