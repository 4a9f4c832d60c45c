"""A local file of weights, loaded in place of the published ones."""

import sys
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.regular_files import require_regular
from ttt_bench.toolkit.checkpoints import LARGEST_CHECKPOINT, read_checkpoint

SAFETENSORS = ".safetensors"
# Names under which training scripts save a state dict, in the order in which one is taken.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "last", "model_ema", "ema")
# Prefixes that data parallelism, Lightning and `torch.compile` leave on every name.
PREFIXES = ("module.", "model.", "_orig_mod.")

State = Mapping[str, Tensor]


def read_state_dict(path: Path) -> State:
    """Return the state dict in a file, in the file's order.

    Args:
        path: in the safetensors format, or written by `torch.save`: a state dict, alone or under
            one of `WRAPPERS`.

    Raises:
        UserError: there is no such file, or it holds no state dict.
    """
    content = _read_safetensors(path) if path.suffix == SAFETENSORS else read_checkpoint(path)
    while isinstance(content, Mapping):
        wrapped = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not wrapped:
            break
        if len(wrapped) > 1:
            print(f"{path}: holds {' and '.join(wrapped)}; takes {wrapped[0]}", file=sys.stderr)
        content = content[wrapped[0]]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: holds no state dict (names with their tensors); give one")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{path}: its entry {name!r} is no tensor; give a plain state dict")
    return content


def head_outputs(state: State, model: nn.Module, head: str) -> int | None:
    """Return how many classes the head in a state dict has, None if it shows no such head.

    Args:
        state: the state dict, in the file's order.
        model: a model of the same architecture, with a head of any number of classes.
        head: the name of the head's module.
    """
    expected = model.state_dict()
    state = _without_prefixes(state, expected)
    name = f"{head}.weight"
    if name not in expected:
        return None
    weight = state.get(name)
    if weight is None and len(state) == len(expected):
        weight = list(state.values())[list(expected).index(name)]
    if weight is None or weight.shape[1:] != expected[name].shape[1:]:
        return None
    return len(weight)


def load_weights(model: nn.Module, path: Path) -> dict[str, str]:
    """Fill a model with the weights of a file that fits it exactly; see `fill`."""
    return fill(model, read_state_dict(path), path)


def fill(model: nn.Module, state: State, path: Path) -> dict[str, str]:
    """Fill a model with a state dict that fits it exactly.

    Where the names in a file of `torch.save` are not the model's, but its entries have the shapes
    of the model's in the same order, they are matched by order, and standard error says so.

    Args:
        model: the model.
        state: the state dict, as `read_state_dict` returned it.
        path: its file, for messages.

    Returns:
        Fields for the protocol card: `weights_matched` where the match was by order.

    Raises:
        UserError: the state dict does not fit; the message names the first such entry.
    """
    expected = model.state_dict()
    state = _without_prefixes(state, expected)
    if state.keys() == expected.keys():
        state = {name: state[name] for name in expected}
    pairs = zip_longest(state.items(), expected.items(), fillvalue=("nothing", None))
    for number, ((name, value), (model_name, target)) in enumerate(pairs, 1):
        # A safetensors file has no order of its own, so only names count there. A name that the
        # model knows must stand where the model has it.
        misplaced = name != model_name and (path.suffix == SAFETENSORS or name in expected)
        if value is None or target is None or value.shape != target.shape or misplaced:
            raise UserError(
                f"{path} does not fit the model: its entry {number} is {_described(name, value)}, "
                f"the model's is {_described(model_name, target)}; give weights of this "
                "architecture"
            )
    model.load_state_dict(dict(zip(expected, state.values(), strict=True)))
    if list(state) == list(expected):
        return {}
    print(
        f"{path}: its {len(state)} entries have other names than the model's, and the same shapes "
        "in the same order; matched by order",
        file=sys.stderr,
    )
    return {"weights_matched": "by order"}


def _without_prefixes(state: State, expected: State) -> State:
    """Return a state dict without the prefixes that all its names share and the model's lack."""
    while state.keys() != expected.keys():
        shared = [p for p in PREFIXES if all(name.startswith(p) for name in state)]
        if not shared:
            break
        state = {name.removeprefix(shared[0]): value for name, value in state.items()}
    return state


def _read_safetensors(path: Path) -> Any:
    require_regular(path, LARGEST_CHECKPOINT)
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{path}: not readable as safetensors ({first_line(error)}); give another"
        ) from error


def _described(name: str, value: Tensor | None) -> str:
    return name if value is None else f"{name} {list(value.shape)}"
