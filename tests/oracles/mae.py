"""MAE and its ViT head written out plainly: no timm, every copy embedded and decoded by itself."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def random_state(seed: int, grid: int = 8, patch: int = 4) -> State:
    """A small model under the authors' names: 48 wide, 3 blocks; 32 wide, 2; head 40 wide, 2."""
    generator = torch.Generator().manual_seed(seed)
    positions = grid**2 + 1
    shapes = {
        "cls_token": (1, 1, 48),
        "pos_embed": (1, positions, 48),
        "mask_token": (1, 1, 32),
        "decoder_pos_embed": (1, positions, 32),
        "classifier_pos_embed": (1, positions, 40),
        "patch_embed.proj.weight": (48, 3, patch, patch),
        "patch_embed.proj.bias": (48,),
        "decoder_embed.weight": (32, 48),
        "decoder_embed.bias": (32,),
        "decoder_pred.weight": (3 * patch**2, 32),
        "decoder_pred.bias": (3 * patch**2,),
        "classifier_embed.weight": (40, 48),
        "classifier_embed.bias": (40,),
        "classifier_pred.weight": (10, 40),
        "classifier_pred.bias": (10,),
    }
    for prefix, width, depth in (("", 48, 3), ("decoder_", 32, 2), ("classifier_", 40, 2)):
        for norm in (f"{prefix}norm", *_norms(f"{prefix}blocks", depth)):
            shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        for number in range(depth):
            block = f"{prefix}blocks.{number}"
            for name, out, into in (
                ("attn.qkv", 3 * width, width),
                ("attn.proj", width, width),
                ("mlp.fc1", 4 * width, width),
                ("mlp.fc2", width, 4 * width),
            ):
                shapes |= {f"{block}.{name}.weight": (out, into), f"{block}.{name}.bias": (out,)}
    state = {}
    for name, shape in shapes.items():
        scale = 1 / math.sqrt(shape[-1]) if len(shape) == 2 else 0.1
        state[name] = scale * torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            state[name] += 1
    return state


def _norms(blocks: str, depth: int) -> list[str]:
    return [f"{blocks}.{number}.norm{which}" for number in range(depth) for which in (1, 2)]


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def _blocks(state: State, prefix: str, x: Tensor, heads: int = 4) -> Tensor:
    number = 0
    while f"{prefix}.{number}.norm1.weight" in state:
        name = f"{prefix}.{number}"
        qkv = _linear(state, f"{name}.attn.qkv", _norm(state, f"{name}.norm1", x))
        q, k, v = (
            part.reshape(*part.shape[:2], heads, -1).transpose(1, 2) for part in qkv.chunk(3, -1)
        )
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        x = x + _linear(state, f"{name}.attn.proj", (weights @ v).transpose(1, 2).flatten(2))
        hidden = F.gelu(_linear(state, f"{name}.mlp.fc1", _norm(state, f"{name}.norm2", x)))
        x = x + _linear(state, f"{name}.mlp.fc2", hidden)
        number += 1
    return x


def _patches(images: Tensor, patch: int) -> Tensor:
    """Pixels in (row, column, channel) order."""
    cut = images.unfold(2, patch, patch).unfold(3, patch, patch)
    return cut.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


def encode(state: State, images: Tensor, seen: Tensor | None = None) -> Tensor:
    """Tokens of the seen patches (indices per image), or of all."""
    kernel = state["patch_embed.proj.weight"]
    flat = kernel.permute(0, 2, 3, 1).flatten(1)
    x = _patches(images, kernel.shape[-1]) @ flat.T + state["patch_embed.proj.bias"]
    x = x + state["pos_embed"][:, 1:]
    if seen is not None:
        x = torch.stack([own[places] for own, places in zip(x, seen, strict=True)])
    first = (state["cls_token"] + state["pos_embed"][:, :1]).expand(len(x), -1, -1)
    return _norm(state, "norm", _blocks(state, "blocks", torch.cat([first, x], 1)))


def loss(state: State, images: Tensor, noise: Tensor) -> Tensor:
    """Mean over the masked patches of all images, each image masked by its row of noise."""
    order = noise.argsort(1)
    seen = order[:, : noise.shape[1] // 4]
    small = _linear(state, "decoder_embed", encode(state, images, seen))
    filled = state["mask_token"].expand(len(images), noise.shape[1], -1).clone()
    for row, places in enumerate(seen):
        filled[row, places] = small[row, 1:]
    x = torch.cat([small[:, :1], filled], 1) + state["decoder_pos_embed"]
    x = _norm(state, "decoder_norm", _blocks(state, "decoder_blocks", x))
    predicted = _linear(state, "decoder_pred", x)[:, 1:]
    pixels = _patches(images, state["patch_embed.proj.weight"].shape[-1])
    target = (pixels - pixels.mean(-1, keepdim=True)) / (pixels.var(-1, keepdim=True) + 1e-6).sqrt()
    hidden = order[:, noise.shape[1] // 4 :]
    errors = (predicted - target).square().mean(-1).gather(1, hidden)
    return errors.mean()


def classify(state: State, image: Tensor) -> Tensor:
    """The ViT head's logits."""
    x = _linear(state, "classifier_embed", encode(state, image)) + state["classifier_pos_embed"]
    x = _norm(state, "classifier_norm", _blocks(state, "classifier_blocks", x))
    return _linear(state, "classifier_pred", x[:, 0])


def tune(state: State, image: Tensor, masks: Tensor, lr: float, adamw: bool) -> tuple[list, list]:
    """Losses at each step, logits before the first and after each; the image repeated per copy."""
    state = copy.deepcopy(state)
    fixed = ("decoder_", "classifier_", "pos_embed")
    parameters = [v.requires_grad_() for n, v in state.items() if not n.startswith(fixed)]
    if adamw:
        optimizer = torch.optim.AdamW(parameters, lr, betas=(0.9, 0.95))
    else:
        optimizer = torch.optim.SGD(parameters, lr, momentum=0.9)
    losses, logits = [], [classify(state, image)[0].detach()]
    for noise in masks:
        optimizer.zero_grad()
        value = loss(state, image.repeat(len(noise), 1, 1, 1), noise)
        value.backward()
        optimizer.step()
        losses.append(value.detach())
        logits.append(classify(state, image)[0].detach())
    return losses, logits
