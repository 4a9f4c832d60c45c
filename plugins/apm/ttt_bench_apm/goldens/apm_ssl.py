"""The self-supervised APM against its release: answers, interpolation, three training steps."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench_apm.goldens.drawn import draw_parameters
from ttt_bench_apm.self_supervised.interpolation import interpolate
from ttt_bench_apm.self_supervised.locations import lattice
from ttt_bench_apm.self_supervised.network import FieldSizes, PerceptionField, query
from ttt_bench_apm.self_supervised.targets import average_colours
from ttt_bench_apm.self_supervised.training import losses, optimizer_of


def compute(
    arrays: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pairs of a computed and an expected value by the name of the output."""
    rng = np.random.default_rng(int(arrays["seed"]))
    state = draw_parameters(rng, arrays["param_order"], 0.02, device)
    sizes = sizes_of(state)
    shape = (1, 3, sizes.image, sizes.image)
    one, other = (torch.from_numpy(rng.random(shape, np.float32)).to(device) for _ in range(2))
    shape = (1, sizes.grid**2, sizes.features)
    targets = torch.from_numpy(rng.standard_normal(shape, np.float32)).to(device)
    network = PerceptionField(sizes).to(device)
    network.load_state_dict(state)
    grid = lattice(sizes.grid, sizes.grid, device)
    locations = grid[torch.from_numpy(arrays["grid_rows"]).to(device)]
    with torch.no_grad():
        values = query(network, network.trigger(one)[0], locations)
    steps = len(arrays["interpolated_features"])
    between = list(interpolate(network, one[0], other[0], steps, locations))
    computed = {
        "features": values.features,
        "rgb": values.rgb,
        "interpolated_features": torch.stack([answer.features for answer in between]),
        "interpolated_rgb": torch.stack([answer.rgb for answer in between]),
        "losses": train(network, one, grid, targets, len(arrays["losses"])),
    }
    return {name: (value, torch.from_numpy(arrays[name])) for name, value in computed.items()}


def sizes_of(state: Mapping[str, Tensor]) -> FieldSizes:
    """Return the sizes of the network that a state dict belongs to."""
    inputs = state["fc1.weight"].shape[1]
    code = inputs // 2
    return FieldSizes(
        grid=round((inputs - code) ** 0.5),
        patch=state["conv1.weight"].shape[-1],
        code=code,
        widths=tuple(len(v) for n, v in state.items() if n.startswith("fc") and v.ndim == 2),
        features=len(state["feat_proj_head.weight"]),
        colour=len(state["rgb_head_1.weight"]),
    )


def train(
    network: PerceptionField,
    image: Float[Tensor, "1 3 side side"],
    grid: Float[Tensor, "locations 2"],
    targets: Float[Tensor, "1 locations dim"],
    steps: int,
) -> Float[Tensor, "steps 3"]:
    """Train on one image by Adam and return the total, the feature and the colour loss.

    Args:
        network: the network, trained in place.
        image: the image, between 0 and 1.
        grid: the locations of the grid.
        targets: features at these locations.
        steps: steps of Adam.
    """
    optimizer = optimizer_of(network, 1e-4)
    colours = average_colours(image, network.sizes.patch)
    trajectory = []
    for _ in range(steps):
        optimizer.zero_grad()
        feature, rgb = losses(network, image, grid, targets, colours)
        (feature + rgb).backward()
        optimizer.step()
        trajectory.append(torch.stack([feature + rgb, feature, rgb]).detach())
    return torch.stack(trajectory)
