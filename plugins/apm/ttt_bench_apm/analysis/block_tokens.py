"""Tokens after an early transformer block, of image models and of video models."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torchvision.models import video

from ttt_bench import Backbone, UserError, load_backbone, read_checkpoint, seeded
from ttt_bench_apm.self_supervised.images import square
from ttt_bench_apm.self_supervised.teacher import Teacher

VIDEO = "video:"
# torchvision's models of this kind, with the weights that were trained on Kinetics-400.
VIDEO_MODELS = {
    "mvit_v2_s": (video.mvit_v2_s, video.MViT_V2_S_Weights.KINETICS400_V1),
    "mvit_v1_b": (video.mvit_v1_b, video.MViT_V1_B_Weights.KINETICS400_V1),
}
# The input that they were trained with.
FRAMES, VIDEO_SIDE, VIDEO_MEAN, VIDEO_STD = 16, 224, 0.45, 0.225
# CLS and register tokens in front of the patches.
MOST_PREFIX_TOKENS = 8

TokenGrid = Float[Tensor, "rows columns dim"]


@torch.no_grad()
def video_tokens(
    name: str,
    image: Image.Image,
    blocks: Sequence[int],
    device: torch.device,
    weights: Path | None = None,
    untrained: bool = False,
) -> list[TokenGrid]:
    """Return the middle frame's tokens after some blocks, the image repeated along time.

    Args:
        name: the video model, such as `video:mvit_v2_s`.
        image: the image, in RGB.
        blocks: numbers of the blocks, from 1.
        device: the device to compute on.
        weights: a file of weights; None for the published ones.
        untrained: whether to take random weights, drawn with seed 0.

    Raises:
        UserError: there is no such model or block, or its weights are not available or do not fit.
    """
    model = _load_video_model(name, weights, untrained).to(device).eval()
    frame = (square(image, VIDEO_SIDE).float() / 255 - VIDEO_MEAN) / VIDEO_STD  # (3, S, S)
    # (1, 3, 1, S, S) -> (1, 3, frames, S, S)
    clip = frame[None, :, None].expand(1, 3, FRAMES, -1, -1).to(device)
    chain = list(cast(nn.ModuleList, model.blocks))
    grids = []
    for tokens, (time, rows, columns) in _block_outputs(name, chain, blocks, lambda: model(clip)):
        # Without CLS: (time*rows*columns, D) -> (time, rows, columns, D)
        frames = tokens[0, 1:].unflatten(0, (time, rows, columns))
        grids.append(frames[time // 2].cpu())
    return grids


def _load_video_model(name: str, weights: Path | None, untrained: bool) -> nn.Module:
    """Build a video model with weights of a file, random ones, or the published ones."""
    kind = name.removeprefix(VIDEO)
    if kind not in VIDEO_MODELS:
        known = ", ".join(f"{VIDEO}{other}" for other in VIDEO_MODELS)
        raise UserError(f"unknown video model {name!r}; known: {known}")
    build, published = VIDEO_MODELS[kind]
    with seeded(0):
        model = build()
    if weights is not None:
        try:
            model.load_state_dict(read_checkpoint(weights))
        except (RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(
                f"{weights} does not fit {name} ({reason}); give its weights"
            ) from error
    elif not untrained:
        try:
            model.load_state_dict(published.get_state_dict(progress=False))
        except OSError as error:
            raise UserError(
                f"{name}: the weights could not be downloaded ({error}); run this with a network, "
                "give a file with --weights, or take --untrained"
            ) from error
    return model


def image_tokens(
    name: str,
    image: Image.Image,
    blocks: Sequence[int],
    device: str,
    side: int | None = None,
    weights: Path | None = None,
    untrained: bool = False,
) -> list[TokenGrid]:
    """Return an image model's tokens after some blocks.

    Args:
        name: the backbone.
        image: the image, in RGB.
        blocks: numbers of the blocks, from 1.
        device: the device to compute on.
        side: pixels per side of the image; None for the model's own.
        weights: a file of weights; None for the backbone's own.
        untrained: whether to take random weights, drawn with seed 0.

    Raises:
        UserError: the backbone cannot be loaded, or it has no such blocks.
    """
    backbone = _load_untrained(name, device) if untrained else load_backbone(name, device, weights)
    # Hooks stay on the copy that a backbone makes for another side, so they come first.
    chains = [
        cast(nn.ModuleList, module)
        for path, module in backbone.model.named_modules()
        if path.split(".")[-1] in ("blocks", "resblocks") and not path.startswith("transformer")
    ]
    chain = [block for chain in chains for block in chain]
    if not chain:
        raise UserError(f"{name}: has no transformer blocks to look into; take another model")
    teacher = Teacher(name, backbone)
    squares = square(image, side or teacher.side)[None]  # (1, 3, S, S)
    outputs = _block_outputs(name, chain, blocks, lambda: teacher(squares))
    return [_token_grid(output, name).cpu() for output in outputs]


def _block_outputs(
    name: str, chain: list[nn.Module], blocks: Sequence[int], forward: Callable[[], object]
) -> list[Any]:
    """Return the outputs of some blocks of a chain during a forward pass.

    Args:
        name: the model, for the message.
        chain: all blocks of the model.
        blocks: numbers of the blocks, from 1.
        forward: runs the model.
    """
    if not all(1 <= number <= len(chain) for number in blocks):
        raise UserError(f"{name}: has blocks 1 to {len(chain)}; give one of them with --block")
    outputs: dict[int, Any] = {}
    hooks = [
        chain[number - 1].register_forward_hook(
            lambda _, inputs, output, number=number: outputs.__setitem__(number, output)
        )
        for number in blocks
    ]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return [outputs[number] for number in blocks]


def _token_grid(output: Any, name: str) -> TokenGrid:
    """Return an image model's block output as rows and columns, without prefix tokens."""
    tokens = output[0] if isinstance(output, tuple) else output
    if tokens.ndim == 4:
        return tokens[0]  # (1, rows, columns, D) -> (rows, columns, D)
    rows = int(tokens.shape[1] ** 0.5)
    prefix = tokens.shape[1] - rows**2
    if tokens.ndim != 3 or prefix > MOST_PREFIX_TOKENS:
        raise UserError(f"{name}: its tokens form no square grid; take another model")
    # (1, prefix + rows*rows, D) -> (rows, rows, D)
    return tokens[0, prefix:].unflatten(0, (rows, rows))


def _load_untrained(name: str, device: str) -> Backbone:
    """Load a timm model with random weights, drawn with seed 0."""
    if not name.startswith("timm:"):
        raise UserError(
            f"--untrained goes with {VIDEO}... and timm:... models, not with {name}; leave it out"
        )
    architecture = name.removeprefix("timm:")
    if architecture.partition(".")[0] not in timm.list_models():
        return load_backbone(name, device)  # which refuses it, with the names that are alike
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.pth"
        with seeded(0):
            torch.save(timm.create_model(architecture).state_dict(), path)
        return load_backbone(name, device, path)
