"""Checkpoints of the self-supervised APM: files of `ttt-bench apm train`, and the authors'."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench import UserError, read_checkpoint, save_checkpoint
from ttt_bench_apm.self_supervised.locations import Locations
from ttt_bench_apm.self_supervised.network import FieldSizes, PerceptionField
from ttt_bench_apm.self_supervised.targets import features_at

EMBEDDED = Path(__file__).with_name("weights") / "tiny-apm.pth"


@dataclass(frozen=True)
class TrainedField:
    """A trained network.

    Attributes:
        network: in eval mode, its parameters not asking for gradients.
        mean_field: the teacher's mean feature at each of its patches over training photographs;
            None where the file has none.
        about: how the network was trained, as far as the file says; `teacher` names its backbone.
        unused: entries of the file that the network does not have.
    """

    network: PerceptionField
    mean_field: Float[Tensor, "rows columns dim"] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def subtract_mean_field(
        self, features: Float[Tensor, "locations dim"], locations: Locations
    ) -> Float[Tensor, "locations dim"]:
        """Subtract the mean field at locations, where the checkpoint has one.

        Args:
            features: of the network or of its teacher.
            locations: where the features are.
        """
        if self.mean_field is None:
            return features
        return features - features_at(self.mean_field[None], self.network.sizes.grid, locations)[0]


def load_field(path: Path | None = None, device: torch.device | str = "cpu") -> TrainedField:
    """Load a trained network.

    The authors' `model_15.pth` is a bare state dict under the same names; its sizes follow from the
    shapes.

    Args:
        path: a file of `ttt-bench apm train` or of the authors; None for the embedded tiny-apm.
        device: the device to load onto.

    Raises:
        UserError: there is no such file, or it is not a checkpoint of the self-supervised APM.
    """
    path = path or EMBEDDED
    content = read_checkpoint(path)
    content = content if isinstance(content, Mapping) else {}
    entries = next((content[k] for k in ("model", "state_dict") if k in content), content)
    if not isinstance(entries, Mapping):
        raise UserError(f"{path}: holds no state dict; give a checkpoint of `ttt-bench apm train`")
    state = {
        str(name).removeprefix("module."): value.float()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }
    network = _build_network(path, state, content.get("sizes"))
    expected = network.state_dict()
    for name, value in expected.items():
        if name not in state or state[name].shape != value.shape:
            shape = list(state[name].shape) if name in state else "missing"
            raise UserError(
                f"{path}: {name} is {shape}, expected {list(value.shape)}; give another checkpoint"
            )
    network.load_state_dict({name: state[name] for name in expected}, assign=True)
    mean_field, about = content.get("mean_field"), content.get("about")
    return TrainedField(
        network.to(device).eval().requires_grad_(False),
        mean_field.float().to(device) if isinstance(mean_field, Tensor) else None,
        about if isinstance(about, Mapping) else {},
        tuple(sorted(set(state) - set(expected))),
    )


def _build_network(path: Path, state: Mapping[str, Tensor], saved: Any) -> PerceptionField:
    """Build the network, without memory for its weights, in the sizes that a file has.

    Args:
        path: the file, for the message.
        state: its weights.
        saved: the sizes it records; None for a bare state dict.
    """
    try:
        # On the device "meta" a file with absurd sizes costs nothing before its shapes are checked.
        with torch.device("meta"):
            return PerceptionField(_sizes_of_shapes(state) if saved is None else _sizes_of(saved))
    # The file may be anything.
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path}: no checkpoint of a self-supervised APM ({error}); "
            "make one with `ttt-bench apm train`"
        ) from error


def _sizes_of(saved: Mapping[str, Any]) -> FieldSizes:
    """Return the sizes that a file records."""
    return FieldSizes(**{**saved, "widths": tuple(saved["widths"])})


def _sizes_of_shapes(state: Mapping[str, Tensor]) -> FieldSizes:
    """Return the sizes that follow from the shapes of a bare state dict, with d = h * w."""
    layers = 0
    while f"fc{layers + 1}.weight" in state:
        layers += 1
    channels, _, patch, _ = state["conv1.weight"].shape
    # The first layer reads `channels` numbers of each cell, and a code as long as there are cells.
    cells = state["fc1.weight"].shape[1] // (channels + 1)
    return FieldSizes(
        grid=round(cells**0.5),
        patch=patch,
        channels=channels,
        code=cells,
        widths=tuple(len(state[f"fc{n + 1}.weight"]) for n in range(layers)),
        features=len(state["feat_proj_head.weight"]),
        colour=len(state["rgb_head_1.weight"]),
    )


def save_field(
    path: Path,
    network: PerceptionField,
    about: Mapping[str, Any],
    mean_field: Float[Tensor, "rows columns dim"],
) -> None:
    """Write a checkpoint that `load_field` reads.

    Args:
        path: the file.
        network: the network.
        about: how it was trained: plain values by name, `teacher` among them.
        mean_field: the teacher's mean feature at each of its patches.

    Raises:
        OSError: the file cannot be written.
    """
    content = {
        "model": {name: value.detach().cpu() for name, value in network.state_dict().items()},
        "sizes": asdict(network.sizes),
        "about": dict(about),
        "mean_field": mean_field.half().cpu(),
    }
    save_checkpoint(content, path)
