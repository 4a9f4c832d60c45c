"""Parameters that a golden draws from its seed, in the order that the file states."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def draw_parameters(
    rng: np.random.Generator, order: Iterable[object], std: float, device: torch.device
) -> dict[str, Tensor]:
    """Draw the parameters of a released network.

    Args:
        rng: the generator.
        order: a line for each parameter: its name, a space, its shape such as "(4096, 2048)".
        std: the standard deviation.
        device: the device to put them on.
    """
    parameters = {}
    for line in order:
        name, _, text = str(line).partition(" ")
        shape = tuple(int(part) for part in text.strip("()").split(",") if part.strip())
        drawn = rng.standard_normal(shape, np.float32) * np.float32(std)
        parameters[name] = torch.from_numpy(drawn).to(device)
    return parameters
