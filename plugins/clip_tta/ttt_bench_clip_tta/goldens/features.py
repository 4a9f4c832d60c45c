"""The methods that need features alone, on the features of the file.

`episodic` and `online` have a function for each method. It returns what is computed here by the
name of the output; a method whose arrays are not in the file returns nothing.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from ttt_bench_clip_tta.goldens import episodic, online
from ttt_bench_clip_tta.goldens.file import FeatureFile

METHODS: tuple[Callable[[FeatureFile], Mapping[str, Tensor]], ...] = (
    *episodic.METHODS,
    *online.METHODS,
)


@torch.no_grad()
def compute(
    arrays: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pairs of a computed and an expected value by the name of the output."""
    file = FeatureFile(arrays, device)
    computed: dict[str, Tensor] = {}
    for run in METHODS:
        computed |= run(file)
    return {name: (value, file.tensor(name)) for name, value in computed.items()}
