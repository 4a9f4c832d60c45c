"""Compare our implementations with numbers that the methods' original releases gave.

    python tests/golden_check.py FILE.npz

prints one JSON line: the kind of the file, and for every stored output the largest absolute
difference and the same relative to the output's largest value.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

Arrays = Mapping[str, np.ndarray]
Pairs = dict[str, tuple[np.ndarray, np.ndarray]]


def check_apm_ttt(file: Arrays) -> Pairs:
    """APM's test-time training: every case of the file, all inputs drawn from its seed."""
    return {
        f"{case}/{name}": pair
        for case in dict.fromkeys(name.split("/")[0] for name in file)
        for name, pair in _apm_case(file, case).items()
    }


def _apm_case(file: Arrays, case: str) -> Pairs:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from ttt_bench_apm.adapter import APMConfig, fit
    from ttt_bench_apm.network import Network, Sizes

    from tests.oracles.apm import stacked

    rng = np.random.default_rng(int(file[f"{case}/seed"]))
    parameters = {}
    for line in file[f"{case}/param_order"]:
        name, _, shape = str(line).partition(" ")
        drawn = rng.standard_normal(_shape(shape), np.float32) * np.float32(0.01)
        parameters[name] = torch.from_numpy(drawn)
    patch = parameters["conv1.weight"].shape[-1]
    grid = round((parameters["fc1.weight"].shape[1] // 2) ** 0.5)
    side = patch * grid
    image = torch.from_numpy(rng.standard_normal((1, 3, side, side), np.float32))
    target = torch.from_numpy(file[f"{case}/target"]).reshape(1, -1)
    sizes = Sizes(
        grid=grid,
        patch=patch,
        widths=tuple(len(parameters[f"fc{layer}.weight"]) for layer in (1, 4, 5)),
        features=target.shape[1],
        heads=8,
    )
    network = Network(sizes, torch.device("cpu"))
    weights = stacked(parameters)
    steps = len(file[f"{case}/losses"])
    pooled = fit(network, weights, image, target, APMConfig(steps=steps))[0]
    with torch.no_grad():
        field = network.field(weights, image)[0].view(grid, grid, -1)
    sampled = torch.arange(4) * grid // 4
    ours = {
        "losses": (pooled[:-1] - target).square().mean(dim=1),
        "pooled": pooled,
        "grid_sample": field[sampled][:, sampled],
    }
    return {name: (value.numpy(), file[f"{case}/{name}"]) for name, value in ours.items()}


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.strip("()").split(",") if part.strip())


CHECKS = {"apm_ttt": check_apm_ttt}


def recognise(file: Arrays) -> str:
    """Which kind of golden file this is, by what it holds.

    Raises:
        ValueError: none that we implement.
    """
    names = {name.split("/")[-1] for name in file}
    if {"param_order", "pooled", "losses", "grid_sample"} <= names:
        return "apm_ttt"
    raise ValueError("not a golden file of a method that is here: " + ", ".join(sorted(file)[:5]))


def compare(path: Path) -> dict:
    """The JSON object that the command prints."""
    with np.load(path) as npz:
        file = {name: npz[name] for name in npz.files}
    kind = recognise(file)
    pairs = CHECKS[kind](file)
    difference = {name: float(np.abs(a - b).max()) for name, (a, b) in pairs.items()}
    return {
        "kind": kind,
        "max_abs_diff": difference,
        "max_rel_diff": {
            name: difference[name] / float(np.abs(b).max()) for name, (_, b) in pairs.items()
        },
    }


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/golden_check.py FILE.npz")
    try:
        result = compare(Path(sys.argv[1]))
    except (OSError, ValueError) as error:
        sys.exit(f"golden_check: {sys.argv[1]}: {error}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
