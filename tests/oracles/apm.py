"""APM's network in its plain form: every location's query through every layer.

It follows the paper and the release line by line and is slow; the folded network of ttt_bench_apm
must agree with it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sine_code(size: int, rows: int, columns: int) -> Tensor:
    """Return `[rows * columns, size]`: half of an entry codes the column, half the row."""
    code = torch.zeros(rows, columns, size)
    half = size // 2
    for i in range(half // 2):
        frequency = math.exp(-math.log(10000.0) * 2 * i / half)
        across = torch.arange(columns) * frequency
        down = torch.arange(rows) * frequency
        code[:, :, 2 * i] = across.sin()[None, :]
        code[:, :, 2 * i + 1] = across.cos()[None, :]
        code[:, :, half + 2 * i] = down.sin()[:, None]
        code[:, :, half + 2 * i + 1] = down.cos()[:, None]
    return code.flatten(0, 1)  # (rows, columns, size) -> (rows * columns, size)


class PlainAPM(nn.Module):
    """One image's network, as released; `copies` repeats the image, which changes only the cost."""

    def __init__(
        self,
        grid: int,
        patch: int,
        widths: tuple[int, int, int],
        features: int,
        heads: int = 8,
        pooling: str = "attention",
        copies: int = 1,
    ) -> None:
        super().__init__()
        d = grid * grid
        self.pooling, self.copies = pooling, copies
        self.conv1 = nn.Conv2d(3, 1, patch, stride=patch)
        self.fc1 = nn.Linear(2 * d, widths[0])
        self.fc4 = nn.Linear(widths[0], widths[1])
        self.fc5 = nn.Linear(widths[1], widths[2])
        self.feat_proj_head = nn.Linear(widths[2], features)
        self.register_buffer("query_code", sine_code(d, grid, grid))
        if pooling == "attention":
            self.little_query = nn.Parameter(torch.zeros(features))
            self.little_self_attention = nn.MultiheadAttention(features, heads, batch_first=True)
            self.register_buffer("field_code", sine_code(features, grid, grid))

    def field(self, images: Tensor) -> Tensor:
        """Return the features `[copies, locations, features]` of one image `[1, 3, S, S]`."""
        images = images.expand(self.copies, -1, -1, -1)
        trigger = self.conv1(images).flatten(1)  # (copies, 1, h, w) -> (copies, d)
        locations = len(self.query_code)
        # (copies, L, d) and (copies, L, d) -> (copies, L, 2d)
        queries = torch.cat(
            [
                trigger[:, None].expand(-1, locations, -1),
                self.query_code.expand(self.copies, -1, -1),
            ],
            dim=2,
        )
        hidden = F.relu(self.fc1(queries))
        hidden = F.relu(self.fc4(hidden))
        hidden = F.relu(self.fc5(hidden))
        return self.feat_proj_head(hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled feature `[copies, features]`."""
        field = self.field(images)
        if self.pooling == "mean":
            return field.mean(dim=1)
        keys = field + self.field_code
        query = self.little_query.expand(self.copies, 1, -1)  # (copies, 1, features)
        return self.little_self_attention(query, keys, keys, need_weights=False)[0][:, 0]

    def load(self, parameters: dict[str, Tensor]) -> "PlainAPM":
        """Take parameters by their released names."""
        missing, unexpected = self.load_state_dict(parameters, strict=False)
        assert not unexpected
        assert all("code" in name for name in missing), missing
        return self


def train_step(network: PlainAPM, optimizer: torch.optim.Optimizer, image: Tensor, target: Tensor):
    """Make one Adam step towards the target `[1, features]` and return the loss before it."""
    optimizer.zero_grad()
    pooled = network(image)
    loss = F.mse_loss(pooled, target.expand_as(pooled))
    loss.backward()
    optimizer.step()
    return loss.item()
