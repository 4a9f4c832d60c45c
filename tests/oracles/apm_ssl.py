"""The self-supervised APM in its plain form: every location's query through every layer.

Functions on a dictionary of tensors under the released names; the folded network of
ttt_bench_apm.self_supervised must agree with them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.oracles.apm import sine_code

State = dict[str, Tensor]


def trigger(state: State, images: Tensor) -> Tensor:
    """Return the trigger columns `[batch, numbers]` of images `[batch, 3, S, S]`."""
    kernel = state["conv1.weight"]
    return F.conv2d(images, kernel, state["conv1.bias"], stride=kernel.shape[-1]).flatten(1)


def queries(column: Tensor, grid: int, code_size: int) -> Tensor:
    """Return `[batch, locations, numbers + code]`, the column beside each location's code."""
    code = sine_code(code_size, grid, grid)
    batch = len(column)
    repeated = column[:, None].expand(-1, grid * grid, -1)
    return torch.cat([repeated, code.expand(batch, -1, -1)], dim=2)


def decode(state: State, query: Tensor) -> tuple[Tensor, Tensor]:
    """Return features and colours of queries, each independent of the others."""
    hidden = query
    for layer in range(1, 1 + sum(n.startswith("fc") and n.endswith("weight") for n in state)):
        hidden = F.relu(F.linear(hidden, state[f"fc{layer}.weight"], state[f"fc{layer}.bias"]))
    features = F.linear(hidden, state["feat_proj_head.weight"], state["feat_proj_head.bias"])
    colours = torch.cat([features, query], dim=2)
    for layer in (1, 2, 3):
        name = f"rgb_head_{layer}"
        colours = F.relu(F.linear(colours, state[f"{name}.weight"], state[f"{name}.bias"]))
    return features, colours


def whole_grid(state: State, images: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Return features and colours at every location of the grid, row by row."""
    column = trigger(state, images)
    return decode(state, queries(column, grid, state["fc1.weight"].shape[1] - column.shape[1]))


def interpolated(
    state: State, one: Tensor, other: Tensor, steps: int, grid: int
) -> tuple[Tensor, Tensor]:
    """Return features and colours `[steps, locations, ...]` between two images."""
    start, end = trigger(state, one), trigger(state, other)
    code = state["fc1.weight"].shape[1] - start.shape[1]
    decoded = [
        decode(state, queries(start + (end - start) * i / steps, grid, code)) for i in range(steps)
    ]
    return torch.cat([f for f, _ in decoded]), torch.cat([c for _, c in decoded])


def train(state: State, images: Tensor, targets: Tensor, grid: int, steps: int) -> Tensor:
    """Return `[steps, 3]`, the total, feature and colour loss before each step of Adam(1e-4)."""
    parameters = {name: value.clone().requires_grad_() for name, value in state.items()}
    optimizer = torch.optim.Adam(list(parameters.values()), lr=1e-4)
    colours = F.avg_pool2d(images, state["conv1.weight"].shape[-1]).flatten(2).transpose(1, 2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        features, rgb = whole_grid(parameters, images, grid)
        feature_loss, rgb_loss = F.mse_loss(features, targets), F.mse_loss(rgb, colours)
        (feature_loss + rgb_loss).backward()
        optimizer.step()
        losses.append(torch.stack([feature_loss + rgb_loss, feature_loss, rgb_loss]).detach())
    return torch.stack(losses)
