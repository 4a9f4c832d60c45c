"""Learned prompts: the files of CoOp, CoCoOp and TPT, and the plugin's own, which are alike."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ttt_bench import UserError, read_checkpoint, save_checkpoint
from ttt_bench_tpt.text import linear

EMBEDDED = Path(__file__).with_name("prompts")
META_NET = ("linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias")


class MetaNet(nn.Module):
    """CoCoOp's network from an image feature to a shift of the context.

    Linear D -> D/16, ReLU, Linear D/16 -> token width (Zhou et al. 2022, section 3.2).
    """

    def __init__(self, features: int, hidden: int, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(features, hidden)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, features: Float[Tensor, "samples dim"]) -> Float[Tensor, "samples width"]:
        """Return one shift per sample."""
        tokens = features[:, None]  # (samples, 1, dim)
        hidden = linear(tokens, self.linear1.weight, self.linear1.bias).relu()
        return linear(hidden, self.linear2.weight, self.linear2.bias)[:, 0]  # (samples, width)


@dataclass(frozen=True)
class Prompt:
    """A learned context, and CoCoOp's network that shifts it.

    Attributes:
        context: the context tokens `[tokens width]`.
        meta_net: the network; None for CoOp.
    """

    context: Float[Tensor, "tokens width"]
    meta_net: MetaNet | None = None

    def conditioned_on(
        self, features: Float[Tensor, "samples dim"]
    ) -> Float[Tensor, "samples tokens width"]:
        """Return the context of each sample."""
        assert self.meta_net is not None
        return self.context + self.meta_net(features)[:, None]


def locate(checkpoint: str) -> Path:
    """Return the embedded file of this name, otherwise the path."""
    embedded = EMBEDDED / checkpoint
    return embedded if os.path.isfile(embedded) else Path(checkpoint)


def load_prompt(checkpoint: str, conditional: bool, device: torch.device) -> Prompt:
    """Read a Dassl checkpoint (`state_dict` with `prompt_learner.*`) or a bare state dict.

    Only tensors are read: nothing in the file is executed.

    Args:
        checkpoint: path of the file, or the name of an embedded one.
        conditional: whether a meta network must be there (CoCoOp) or must not (CoOp).
        device: the device to load onto.

    Raises:
        UserError: the file is no such checkpoint.
    """
    path = locate(checkpoint)
    content = read_checkpoint(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    state = {
        str(name).removeprefix("module.").removeprefix("prompt_learner."): value.float().to(device)
        for name, value in (state if isinstance(state, Mapping) else {}).items()
        if isinstance(value, Tensor)
    }
    context = state.get("ctx")
    if context is None or context.ndim != 2 or not context.numel():
        shape = "none" if context is None else f"one of shape {list(context.shape)}"
        raise UserError(f"{path}: needs a context `ctx` of [tokens, width], holds {shape}")
    layers = {name: state.get(f"meta_net.{name}") for name in META_NET}
    if not conditional:
        if any(value is not None for value in layers.values()):
            raise UserError(f"{path}: holds a meta network, so it is CoCoOp's; use cocoop")
        return Prompt(context)
    missing = [name for name, value in layers.items() if value is None]
    if missing:
        raise UserError(f"{path}: holds no meta_net.{missing[0]}, so it is not CoCoOp's; use coop")
    weights = {name: value for name, value in layers.items() if value is not None}
    return Prompt(context, _meta_net(weights, path).to(device).requires_grad_(False))


def _meta_net(weights: dict[str, Tensor], path: Path) -> MetaNet:
    """Build the meta network of these weights.

    Raises:
        UserError: their shapes do not fit together.
    """
    first, second = weights["linear1.weight"], weights["linear2.weight"]
    features, hidden, width = first.shape[-1:], first.shape[:1], second.shape[:1]
    # Shapes are compared before memory is taken: a small file can claim a huge network.
    expected = [hidden + features, hidden, width + hidden, width]
    if first.ndim != 2 or [weights[name].shape for name in META_NET] != expected:
        raise UserError(f"{path}: the shapes of its meta network do not fit together")
    meta_net = MetaNet(first.shape[1], len(first), len(second))
    meta_net.load_state_dict(weights)
    return meta_net


def save_prompt(prompt: Prompt, path: Path, about: Mapping[str, str | int | float]) -> None:
    """Write a checkpoint as Dassl does.

    Args:
        prompt: the learned prompt.
        path: the file to write or replace.
        about: how the prompt was learned, saved beside it.
    """
    state = {"prompt_learner.ctx": prompt.context.detach().cpu()}
    if prompt.meta_net is not None:
        for name, value in prompt.meta_net.state_dict().items():
            state[f"prompt_learner.meta_net.{name}"] = value.cpu()
    save_checkpoint({"state_dict": state, **about}, path)
