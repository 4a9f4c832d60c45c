"""Checkpoints of the self-supervised APM: ours, with their sizes, and the authors'."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench import UserError, read_checkpoint
from ttt_bench_apm.self_supervised.locations import Locations
from ttt_bench_apm.self_supervised.network import FieldSizes, PerceptionField
from ttt_bench_apm.self_supervised.targets import features_at

EMBEDDED = Path(__file__).with_name("weights") / "tiny-apm.pth"


@dataclass(frozen=True)
class TrainedField:
    """A network in eval mode, its parameters not asking for gradients.

    Attributes:
        about: how it was trained, as far as the file says; `teacher` names its backbone.
        mean_field: what the teacher says at each of its patches on average over photographs; None
            where the file does not say.
        unused: entries of the file that such a network has not.
    """

    network: PerceptionField
    mean_field: Float[Tensor, "rows columns dim"] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def less_mean(
        self, features: Float[Tensor, "locations dim"], locations: Locations
    ) -> Float[Tensor, "locations dim"]:
        """What features at locations say beyond their place: less the mean field, where known."""
        if self.mean_field is None:
            return features
        return features - features_at(self.mean_field[None], self.network.sizes.grid, locations)[0]


def load_field(path: Path | None = None, device: torch.device | str = "cpu") -> TrainedField:
    """A trained network: the embedded tiny-apm, a file of `ttt-bench apm train`, or the authors'.

    The authors' `model_15.pth` is a bare state dict under these same names; its sizes follow from
    the shapes.

    Raises:
        UserError: there is no such file, or it is no such checkpoint.
    """
    path = path or EMBEDDED
    content = read_checkpoint(path)
    content = content if isinstance(content, Mapping) else {}
    state = next((content[k] for k in ("model", "state_dict") if k in content), content)
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: holds no state dict; give a checkpoint of APM")
    state = {
        str(name).removeprefix("module."): value.float()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    sizes, about, mean_field = (content.get(key) for key in ("sizes", "about", "mean_field"))
    network = PerceptionField(FieldSizes(**_sizes(path, state, sizes)))
    wanted = network.state_dict()
    for name, value in wanted.items():
        if name not in state or state[name].shape != value.shape:
            found = list(state[name].shape) if name in state else "nothing"
            raise UserError(f"{path}: {name} is {found} where {list(value.shape)} is wanted")
    network.load_state_dict({name: state[name] for name in wanted})
    return TrainedField(
        network.to(device).eval().requires_grad_(False),
        mean_field.float().to(device) if isinstance(mean_field, Tensor) else None,
        about if isinstance(about, Mapping) else {},
        tuple(sorted(set(state) - set(wanted))),
    )


def _sizes(path: Path, state: Mapping[str, Tensor], saved: Any) -> dict[str, Any]:
    """The sizes a file states or, in a bare state dict, those of its shapes: d = h * w."""
    layers = 0
    while f"fc{layers + 1}.weight" in state:
        layers += 1
    try:
        if saved:
            return {**saved, "widths": tuple(saved["widths"])}
        places = state["fc1.weight"].shape[1] // (len(state["conv1.weight"]) + 1)
        return {
            "grid": round(places**0.5),
            "patch": state["conv1.weight"].shape[-1],
            "channels": len(state["conv1.weight"]),
            "code": places,
            "widths": tuple(len(state[f"fc{n + 1}.weight"]) for n in range(layers)),
            "features": len(state["feat_proj_head.weight"]),
            "colour": len(state["rgb_head_1.weight"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: no checkpoint of a self-supervised APM ({error} is missing); "
            "make one with `ttt-bench apm train`"
        ) from error


def save_field(
    path: Path,
    network: PerceptionField,
    about: Mapping[str, Any],
    mean_field: Float[Tensor, "rows columns dim"],
) -> None:
    """Write a checkpoint, whole or not at all."""
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    content = {
        "model": state,
        "sizes": asdict(network.sizes),
        "about": dict(about),
        "mean_field": mean_field.half().cpu(),
    }
    part = path.with_name(f"{path.name}.part")
    torch.save(content, part)
    os.replace(part, path)
