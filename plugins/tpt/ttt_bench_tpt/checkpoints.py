"""Learned prompts: the files of CoOp, CoCoOp and TPT, and ours, which are the same."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ttt_bench import UserError, read_checkpoint
from ttt_bench_tpt.text import linear

EMBEDDED = Path(__file__).with_name("prompts")


class MetaNet(nn.Module):
    """CoCoOp's network from an image feature to a shift of the context.

    Linear D -> D/16, ReLU, Linear D/16 -> token width (Zhou et al. 2022, section 3.2).
    """

    def __init__(self, features: int, hidden: int, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(features, hidden)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, features: Float[Tensor, "samples dim"]) -> Float[Tensor, "samples width"]:
        """One shift per sample."""
        hidden = linear(features[:, None], self.linear1.weight, self.linear1.bias).relu()
        return linear(hidden, self.linear2.weight, self.linear2.bias)[:, 0]


@dataclass(frozen=True)
class Prompt:
    """A learned context and, for CoCoOp, what shifts it.

    Attributes:
        context: `[tokens width]`.
        meta_net: None for CoOp.
    """

    context: Float[Tensor, "tokens width"]
    meta_net: MetaNet | None = None

    def conditioned_on(
        self, features: Float[Tensor, "samples dim"]
    ) -> Float[Tensor, "samples tokens width"]:
        """The context of each sample."""
        assert self.meta_net is not None
        return self.context + self.meta_net(features)[:, None]


def find(checkpoint: str) -> Path:
    """A file by its path, or one that this package carries by its name."""
    embedded = EMBEDDED / checkpoint
    return embedded if embedded.is_file() else Path(checkpoint)


def load_prompt(checkpoint: str, conditional: bool, device: torch.device) -> Prompt:
    """Read a Dassl checkpoint (`state_dict` with `prompt_learner.*`) or a bare state dict.

    Only tensors are read: nothing in the file is executed.

    Args:
        conditional: whether a meta network must be there (CoCoOp) or must not (CoOp).

    Raises:
        UserError: the file is no such checkpoint.
    """
    path = find(checkpoint)
    content = read_checkpoint(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    state = {
        str(name).removeprefix("module.").removeprefix("prompt_learner."): value.float().to(device)
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    context = state.get("ctx")
    if context is None or context.ndim != 2:
        shape = "none" if context is None else f"one of shape {list(context.shape)}"
        raise UserError(f"{path}: wants a context `ctx` of [tokens, width], holds {shape}")
    layers = {name: state.get(f"meta_net.{name}") for name in LAYERS}
    if not conditional:
        if any(value is not None for value in layers.values()):
            raise UserError(f"{path}: holds a meta network, so it is CoCoOp's; use cocoop")
        return Prompt(context)
    missing = [name for name, value in layers.items() if value is None]
    if missing:
        raise UserError(f"{path}: holds no meta_net.{missing[0]}, so it is not CoCoOp's; use coop")
    weights = {name: value for name, value in layers.items() if value is not None}
    hidden, features = weights["linear1.weight"].shape
    meta_net = MetaNet(features, hidden, len(weights["linear2.weight"])).to(device)
    try:
        meta_net.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path}: the shapes of its meta network do not fit together") from error
    return Prompt(context, meta_net.requires_grad_(False))


LAYERS = ("linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias")


def save_prompt(prompt: Prompt, path: Path, about: dict[str, str | int | float]) -> None:
    """Write a checkpoint as Dassl does."""
    state = {"prompt_learner.ctx": prompt.context.detach().cpu()}
    if prompt.meta_net is not None:
        for name, value in prompt.meta_net.state_dict().items():
            state[f"prompt_learner.meta_net.{name}"] = value.cpu()
    torch.save({"state_dict": state, **about}, path)
