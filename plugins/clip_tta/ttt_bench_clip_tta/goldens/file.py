"""FeatureFile: the arrays of a golden file of features, with its cases."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench import batch_invariant_matmul


class FeatureFile:
    """The arrays of a golden file of features.

    Attributes:
        device: the device to compute on.
        views: unit features of the views of each sample, the plain image first.
        text: the unit text feature of each class.
        scale: the factor of cosines.
    """

    views: Float[Tensor, "samples views dim"]
    text: Float[Tensor, "classes dim"]

    def __init__(self, arrays: Mapping[str, np.ndarray], device: torch.device) -> None:
        self._arrays = arrays
        self.device = device
        self.views = self.tensor("input/views")
        self.text = self.tensor("input/text_features")
        self.scale = float(arrays["input/logit_scale"])

    def cases(self, name: str) -> list[str]:
        """Return the cases of a method, such as `tda/single`, that have an array of this name."""
        method, _, array = name.partition("/")
        return [
            case.removesuffix(f"/{array}")
            for case in self._arrays
            if case.startswith(f"{method}/") and case.endswith(f"/{array}")
        ]

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def tensor(self, name: str) -> Tensor:
        """Return an array."""
        return torch.from_numpy(self._arrays[name]).to(self.device)

    def value(self, name: str) -> float:
        """Return a number, such as `mta/hyper/lambda_y`."""
        return float(self._arrays[name])

    def logits(self, views: int | None = None) -> Float[Tensor, "samples views classes"]:
        """Return the scores of the first views of every sample, None for all of its views."""
        return self.scale * batch_invariant_matmul(self.views[:, :views], self.text.T)
