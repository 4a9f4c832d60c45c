"""Goldens: what a method computes here, compared with numbers that its original release gave."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from ttt_bench.api.errors import UserError, described
from ttt_bench.api.specs import GoldenSpec
from ttt_bench.registry import registry

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class GoldenResult:
    """The differences between computed and expected outputs.

    Attributes:
        spec: the golden.
        max_abs_diff: the largest difference of each output, by its name.
        max_rel_diff: the same, relative to the output's largest expected value.
    """

    spec: GoldenSpec
    max_abs_diff: Mapping[str, float]
    max_rel_diff: Mapping[str, float]

    def tolerance(self, output: str) -> float:
        """Return the tolerance of an output, relative to its largest expected value."""
        return self.spec.tolerances.get(output, self.spec.tolerance)

    @property
    def worst(self) -> str:
        """The output whose difference takes the largest share of its tolerance; NaN comes first."""
        return max(self.max_rel_diff, key=self._share)

    def _share(self, output: str) -> float:
        difference = self.max_rel_diff[output]
        return float("inf") if difference != difference else difference / self.tolerance(output)

    @property
    def passed(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(diff <= self.tolerance(name) for name, diff in self.max_rel_diff.items())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read every array of a .npz file; nothing in it is executed.

    Raises:
        UserError: the file cannot be read, or holds no arrays by name.
    """
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, AttributeError, TypeError, BadZipFile) as error:
        raise UserError(
            f"{path}: cannot be read as a .npz file ({described(error)}); give a golden file"
        ) from error


def recognise(arrays: Arrays) -> GoldenSpec:
    """Return the installed golden that a file's arrays belong to.

    Where several fit, the one that asks for the most arrays is taken.

    Raises:
        UserError: none fits.
    """
    names = set(arrays) | {name.rpartition("/")[2] for name in arrays}
    goldens = [item.spec for item in registry().goldens.values()]
    fitting = [spec for spec in goldens if spec.arrays <= names]
    if not fitting:
        raise UserError(
            f"not a golden file of an installed plugin: it holds {', '.join(sorted(arrays)[:5])}; "
            "see `ttt-bench list goldens`"
        )
    return max(fitting, key=lambda spec: len(spec.arrays))


def compare(spec: GoldenSpec, arrays: Arrays | None = None, device: str = "cpu") -> GoldenResult:
    """Compute the outputs of a golden and compare them with the expected ones.

    Args:
        spec: the golden.
        arrays: the arrays of a file; None for the plugin's own.
        device: the device to compute on.

    Raises:
        UserError: the code does not load, or a file of its own cannot be read.
        ValueError: the code returns no outputs, or a pair of two shapes.
    """
    code = spec.load()
    if arrays is None:
        arrays = read_arrays(spec.path)
    pairs = code(arrays, torch.device(device))
    if not pairs:
        raise ValueError(f"{spec.name}: {spec.code} returns no outputs")
    absolute, relative = {}, {}
    for name, pair in pairs.items():
        computed, expected = map(_as_array, pair)
        if computed.shape != expected.shape:
            raise ValueError(
                f"{spec.name}: {name} has shape {list(computed.shape)}, the file expects "
                f"{list(expected.shape)}"
            )
        absolute[name] = float(np.abs(computed - expected).max())
        relative[name] = absolute[name] / (float(np.abs(expected).max()) or 1.0)
    return GoldenResult(spec, absolute, relative)


def _as_array(value: Any) -> np.ndarray:
    """Return a tensor or an array as an array of float64."""
    value = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
    return np.asarray(value, np.float64)
