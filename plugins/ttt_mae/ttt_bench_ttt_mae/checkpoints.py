"""Checkpoints: the authors' files, and the plugin's own, which have the same keys.

A file is a dict with a state dict under `model`. The plugin's own have two more entries: `heads`,
the numbers of attention heads, which shapes do not tell, and `about`, how they were trained.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ttt_bench import UserError, read_checkpoint, save_checkpoint
from ttt_bench_ttt_mae.model import (
    Head,
    LinearHead,
    MAENetwork,
    Sizes,
    Tower,
    ViTHead,
)

# Attention heads of the authors' models, by width (models_mae of both releases).
RELEASED_HEADS = {
    "encoder": {192: 6, 384: 12, 768: 12, 1024: 16, 1280: 16},
    "decoder": {256: 8, 512: 16},
    "classifier": {512: 16, 768: 12},
}
ENCODER = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")
HEAD = "classifier_"
# The linear head's entries as the authors save them, and as their model calls them.
LINEAR = {
    "head.0.running_mean": "bn.running_mean",
    "head.0.running_var": "bn.running_var",
    "head.1.weight": "head.weight",
    "head.1.bias": "head.bias",
}

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file.

    Attributes:
        path: the file.
        state: names and tensors, all float32.
        heads: attention heads of `encoder`, `decoder` and `classifier`, if the file has them.
        about: how it was trained, if the file says so.
    """

    path: Path
    state: dict[str, Tensor]
    heads: Mapping[str, int] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def entry(self, name: str) -> Tensor:
        """Return the tensor of a name.

        Raises:
            UserError: the file has none.
        """
        if name not in self.state:
            raise UserError(f"{self.path}: holds no {name}, so it is not the file needed here")
        return self.state[name]

    def rows(self, name: str) -> int:
        """Return the length of a matrix's first dimension.

        Raises:
            UserError: the file has no such entry, or it is no matrix.
        """
        entry = self.entry(name)
        if entry.ndim != 2:
            raise UserError(f"{self.path}: its {name} has shape {list(entry.shape)}, no matrix's")
        return len(entry)

    def tower(self, part: str, width: int, blocks: str) -> Tower:
        """Return the sizes of a stack of blocks.

        Args:
            part: `encoder`, `decoder` or `classifier`.
            width: size of a token.
            blocks: the prefix of the blocks' entries.

        Raises:
            UserError: the number of attention heads is unknown.
        """
        pattern = re.compile(re.escape(blocks) + r"\.(\d+)\.")
        numbers = {match[1] for name in self.state if (match := pattern.match(name))}
        heads = self.heads.get(part) or RELEASED_HEADS[part].get(width)
        if not isinstance(heads, int) or heads < 1 or width % heads:
            raise UserError(
                f"{self.path}: does not say how many attention heads its {part} of width {width} "
                f"has; save it with a dict `heads` beside `model`, as {{'{part}': NUMBER}}"
            )
        return Tower(width, len(numbers), heads)

    def only(self, *prefixes: str) -> dict[str, Tensor]:
        """Return the entries whose names start with one of the prefixes."""
        return {name: value for name, value in self.state.items() if name.startswith(prefixes)}


def read(path: Path) -> Checkpoint:
    """Read a checkpoint of tensors and plain values; nothing in the file is executed.

    Raises:
        UserError: there is no such file, or it holds no state dict.
    """
    content = read_checkpoint(path)
    content = content if isinstance(content, dict) else {}
    state = content.get("model")
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(
            f"{path}: holds no state dict under `model`; give a checkpoint of MAE, or one that "
            "`ttt-bench ttt-mae` made"
        )
    return Checkpoint(
        path,
        {
            str(name).removeprefix("module."): value.float()
            for name, value in state.items()
            if value.is_floating_point()
        },
        _dict(content.get("heads")),
        _dict(content.get("about")),
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def autoencoder(checkpoint: Checkpoint) -> MAENetwork:
    """Return the encoder and decoder of a checkpoint such as `mae_pretrain_vit_large_full.pth`.

    Raises:
        UserError: an entry is missing, or its shape does not fit the others.
    """
    kernel, positions = checkpoint.entry("patch_embed.proj.weight"), checkpoint.entry("pos_embed")
    mask_token = checkpoint.entry("mask_token")
    if kernel.ndim != 4 or positions.ndim != 3 or mask_token.ndim != 3:
        raise UserError(
            f"{checkpoint.path}: its entries do not have the shapes of a masked autoencoder's; "
            "give another file"
        )
    patch, grid = kernel.shape[-1], round(max(positions.shape[1] - 1, 0) ** 0.5)
    if grid < 1 or grid**2 + 1 != positions.shape[1]:
        raise UserError(
            f"{checkpoint.path}: pos_embed has {positions.shape[1]} positions, which are not "
            "those of CLS and a square grid; give another file"
        )
    sizes = Sizes(
        image=grid * patch,
        patch=patch,
        encoder=checkpoint.tower("encoder", len(kernel), "blocks"),
        decoder=checkpoint.tower("decoder", mask_token.shape[-1], "decoder_blocks"),
    )
    state = checkpoint.only(*ENCODER, "mask_token", "decoder_")
    return build(partial(MAENetwork, sizes), state, checkpoint.path)


def encoder_of(checkpoint: Checkpoint, like: MAENetwork) -> MAENetwork:
    """Return a model with the encoder of a checkpoint and the sizes and decoder of another model.

    Raises:
        UserError: the file's encoder is missing or of another shape.
    """
    decoder = {k: v for k, v in like.state_dict().items() if not k.startswith(ENCODER)}
    state = {**decoder, **checkpoint.only(*ENCODER)}
    return build(partial(MAENetwork, like.sizes), state, checkpoint.path)


def head(checkpoint: Checkpoint, model: MAENetwork) -> Head:
    """Return the classification head of a checkpoint such as `prob_lr1e-3_wd.2_blk12_ep20.pth`.

    Raises:
        UserError: it has none, or one for other tokens than the model's.
    """
    features, state = model.sizes.encoder.width, checkpoint.only(HEAD)
    if state:
        width = checkpoint.rows(f"{HEAD}embed.weight")
        tower = checkpoint.tower("classifier", width, f"{HEAD}blocks")
        classes = checkpoint.rows(f"{HEAD}pred.weight")
        make = partial(ViTHead, features, model.sizes.grid, tower, classes)
        state = {name.removeprefix(HEAD): value for name, value in state.items()}
    else:
        renamed = {LINEAR.get(name, name): value for name, value in checkpoint.state.items()}
        state = {name: renamed[name] for name in LINEAR.values() if name in renamed}
        if "head.weight" not in state:
            raise UserError(
                f"{checkpoint.path}: holds no classification head (classifier_* or head.*); "
                "make one with `ttt-bench ttt-mae train`"
            )
        make = partial(LinearHead, features, len(torch.atleast_1d(state["head.weight"])))
        state["bn.num_batches_tracked"] = torch.tensor(0)
    return build(make, state, checkpoint.path, HEAD)


def build(
    make: Callable[[], ModuleT], state: Mapping[str, Tensor], path: Path, prefix: str = ""
) -> ModuleT:
    """Return a frozen module with the weights of a state dict, every entry of which must fit.

    Args:
        make: builds the module.
        state: the entries.
        path: the file they came from, for the message.
        prefix: the prefix of their names in the file, for the message.

    Raises:
        UserError: an entry is missing, unknown or of another shape; the message names the first.
    """
    try:
        # Shapes are compared before memory is taken: a small file can claim a huge model.
        with torch.device("meta"):
            needed = make().state_dict()
    except Exception as error:
        raise UserError(
            f"{path}: the shapes of its entries make no model; give another file"
        ) from error
    for name, value in needed.items():
        if name not in state:
            raise UserError(f"{path}: holds no {prefix}{name}, which its other entries call for")
        if state[name].shape != value.shape:
            raise UserError(
                f"{path}: {prefix}{name} has shape {list(state[name].shape)}, the model needs "
                f"{list(value.shape)}"
            )
    unknown = sorted(set(state) - set(needed))
    if unknown:
        raise UserError(f"{path}: holds {prefix}{unknown[0]}, which the model does not have")
    module = make()
    module.load_state_dict(dict(state))
    return module.eval().requires_grad_(False)


def save(
    path: Path,
    about: Mapping[str, Any],
    model: MAENetwork | None = None,
    classifier: Head | None = None,
) -> None:
    """Write a model, a head or both under the authors' names.

    Args:
        path: the file to write or replace.
        about: how they were trained.
        model: the autoencoder; None leaves it out.
        classifier: the head; None leaves it out.
    """
    state: dict[str, Tensor] = {}
    heads: dict[str, int] = {}
    if model is not None:
        state.update(model.state_dict())
        heads = {"encoder": model.sizes.encoder.heads, "decoder": model.sizes.decoder.heads}
    if isinstance(classifier, ViTHead):
        state.update({f"{HEAD}{name}": v for name, v in classifier.state_dict().items()})
        heads["classifier"] = classifier.tower.heads
    elif classifier is not None:
        state.update({saved: classifier.state_dict()[name] for saved, name in LINEAR.items()})
    state = {name: value.detach().cpu() for name, value in state.items()}
    save_checkpoint({"model": state, "heads": heads, "about": dict(about)}, path)
