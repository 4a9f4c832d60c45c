"""A local file of weights in the place of the published ones."""

import sys
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from ttt_bench.api.errors import UserError
from ttt_bench.toolkit.checkpoints import read_checkpoint

SAFETENSORS = ".safetensors"


def load_weights(model: nn.Module, path: Path) -> dict[str, str]:
    """Fill a model with the weights of a file that fits it exactly.

    The file is in the safetensors format, or written by `torch.save`: a state dict, alone or under
    `state_dict` or `model`. Where its names are not the model's, but its entries have the shapes of
    the model's in the same order, they are matched by order, and standard error says so.

    Returns:
        What the protocol card adds: `weights_matched` where the match was by order.

    Raises:
        UserError: there is no such file, it holds no state dict, or not this model's; the message
            names the first entry that does not fit.
    """
    found, wanted = _read(path), model.state_dict()
    if found.keys() == wanted.keys():
        found = {name: found[name] for name in wanted}
    nothing = ("nothing", None)
    pairs = zip_longest(found.items(), wanted.items(), fillvalue=nothing)
    for place, ((name, value), (own, target)) in enumerate(pairs, 1):
        # The order of a safetensors file is not the model's, so there only names count; and a name
        # that the model knows must stand where the model has it.
        misplaced = name != own and (path.suffix == SAFETENSORS or name in wanted)
        if value is None or target is None or value.shape != target.shape or misplaced:
            raise UserError(
                f"{path} does not fit the model: its entry {place} is {_describe(name, value)}, "
                f"the model's is {_describe(own, target)}; give weights of this architecture"
            )
    model.load_state_dict(dict(zip(wanted, found.values(), strict=True)))
    if list(found) == list(wanted):
        return {}
    print(
        f"{path}: its {len(found)} entries have other names than the model's, and the same shapes "
        "in the same order; matched by order",
        file=sys.stderr,
    )
    return {"weights_matched": "by order"}


def _read(path: Path) -> dict[str, Tensor]:
    """The file's entries, in its order, without the prefix that training in parallel adds."""
    state = _read_safetensors(path) if path.suffix == SAFETENSORS else read_checkpoint(path)
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not state:
        raise UserError(f"{path}: holds no state dict (names with their tensors); give one")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{path}: its entry {name!r} is no tensor; give a plain state dict")
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _read_safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: not readable as safetensors ({error}); give another") from error


def _describe(name: str, value: Tensor | None) -> str:
    return name if value is None else f"{name} {list(value.shape)}"
