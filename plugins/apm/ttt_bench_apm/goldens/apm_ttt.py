"""APM's test-time training against its release: losses, pooled features, the field at the end."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ttt_bench_apm.goldens.drawn import draw_parameters
from ttt_bench_apm.methods.apm import APMConfig, fit
from ttt_bench_apm.methods.apm_network import Network, Sizes, Weights

Arrays = Mapping[str, np.ndarray]


def compute(arrays: Arrays, device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pairs of a computed and an expected value for every case of the file."""
    return {
        f"{case}/{name}": pair
        for case in dict.fromkeys(name.split("/")[0] for name in arrays)
        for name, pair in _case(arrays, case, device).items()
    }


def _case(arrays: Arrays, case: str, device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
    """Compute one case; its inputs are drawn from its seed."""
    rng = np.random.default_rng(int(arrays[f"{case}/seed"]))
    parameters = draw_parameters(rng, arrays[f"{case}/param_order"], 0.01, device)
    patch = parameters["conv1.weight"].shape[-1]
    grid = round((parameters["fc1.weight"].shape[1] // 2) ** 0.5)
    side = patch * grid
    image = torch.from_numpy(rng.standard_normal((1, 3, side, side), np.float32)).to(device)
    target = torch.from_numpy(arrays[f"{case}/target"]).reshape(1, -1).to(device)  # (1, D)
    sizes = Sizes(
        grid=grid,
        patch=patch,
        widths=(
            len(parameters["fc1.weight"]),
            len(parameters["fc4.weight"]),
            len(parameters["fc5.weight"]),
        ),
        features=target.shape[1],
        heads=8,
    )
    network = Network(sizes, device)
    weights = stacked(parameters)
    steps = len(arrays[f"{case}/losses"])
    pooled = fit(network, weights, image, target, APMConfig(steps=steps))[0]  # (steps + 1, D)
    with torch.no_grad():
        field = network.field(weights, image)[0].view(grid, grid, -1)  # (h, w, D)
    sampled = torch.arange(4) * grid // 4
    computed = {
        "losses": (pooled[:-1] - target).square().mean(dim=1),
        "pooled": pooled,
        "grid_sample": field[sampled][:, sampled],
    }
    return {
        name: (value, torch.from_numpy(arrays[f"{case}/{name}"]))
        for name, value in computed.items()
    }


def stacked(parameters: Mapping[str, Tensor]) -> Weights:
    """Return the release's parameters as the folded network's, with a stack dimension of 1."""
    fc1 = parameters["fc1.weight"]
    d = fc1.shape[1] // 2
    weights = {
        "trigger": parameters["conv1.weight"].flatten(),
        "trigger_bias": parameters["conv1.bias"],
        "fc1_trigger": fc1[:, :d],
        "fc1_column": fc1[:, d : d + d // 2],
        "fc1_row": fc1[:, d + d // 2 :],
        "fc1_bias": parameters["fc1.bias"],
        "fc2": parameters["fc4.weight"],
        "fc2_bias": parameters["fc4.bias"],
        "fc3": parameters["fc5.weight"],
        "fc3_bias": parameters["fc5.bias"],
        "head": parameters["feat_proj_head.weight"],
        "head_bias": parameters["feat_proj_head.bias"],
    }
    if "little_query" in parameters:
        projections = parameters["little_self_attention.in_proj_weight"].chunk(3)
        biases = parameters["little_self_attention.in_proj_bias"].chunk(3)
        weights |= {
            "query": parameters["little_query"],
            "to_query": projections[0],
            "to_query_bias": biases[0],
            "to_key": projections[1],
            "to_value": projections[2],
            "to_value_bias": biases[2],
            "output": parameters["little_self_attention.out_proj.weight"],
            "output_bias": parameters["little_self_attention.out_proj.bias"],
        }
    return {name: value.detach()[None].clone().requires_grad_() for name, value in weights.items()}
