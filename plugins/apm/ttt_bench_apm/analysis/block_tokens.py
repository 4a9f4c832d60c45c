"""Tokens of an early block: of a video model that sees a still image, and of image models."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torchvision.models import video

from ttt_bench import UserError, load_backbone, read_checkpoint
from ttt_bench_apm.self_supervised.images import square
from ttt_bench_apm.self_supervised.teacher import Teacher

VIDEO = "video:"
# torchvision's video models of this family, with the weights they were trained to on Kinetics-400.
VIDEO_MODELS = {
    "mvit_v2_s": (video.mvit_v2_s, video.MViT_V2_S_Weights.KINETICS400_V1),
    "mvit_v1_b": (video.mvit_v1_b, video.MViT_V1_B_Weights.KINETICS400_V1),
}
# What those were trained with.
FRAMES, VIDEO_SIDE, VIDEO_MEAN, VIDEO_STD = 16, 224, 0.45, 0.225

Grid = Float[Tensor, "rows columns dim"]


@torch.no_grad()
def video_tokens(
    name: str,
    image: Image.Image,
    blocks: Sequence[int],
    device: torch.device,
    weights: Path | None = None,
    untrained: bool = False,
) -> list[Grid]:
    """The middle frame's tokens after some blocks, the image repeated along time.

    Args:
        name: as `video:mvit_v2_s`.
        blocks: numbers from 1.
        untrained: take random weights, drawn with seed 0.

    Raises:
        UserError: no such model or block, or its weights cannot be had.
    """
    kind = name.removeprefix(VIDEO)
    if kind not in VIDEO_MODELS:
        known = ", ".join(f"{VIDEO}{known}" for known in VIDEO_MODELS)
        raise UserError(f"unknown video model {name!r}; known: {known}")
    build, published = VIDEO_MODELS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
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
                f"{name}: the weights could not be had ({error}); run this with a network, give a "
                "file with --weights, or take --untrained"
            ) from error
    model = model.to(device).eval()
    frame = (square(image, VIDEO_SIDE).float() / 255 - VIDEO_MEAN) / VIDEO_STD
    clip = frame[None, :, None].expand(1, 3, FRAMES, -1, -1).to(device)
    grids = []
    for tokens, (time, rows, columns) in _watch(model, model.blocks, blocks, name, model, clip):
        frames = tokens[0, 1:].unflatten(0, (time, rows, columns))
        grids.append(frames[time // 2].cpu())
    return grids


def image_tokens(
    name: str,
    image: Image.Image,
    blocks: Sequence[int],
    device: str,
    side: int | None = None,
    weights: Path | None = None,
    untrained: bool = False,
) -> list[Grid]:
    """An image model's tokens after some blocks, as for `video_tokens`; it has no time.

    Raises:
        UserError: it has no blocks that can be read, not that many, or cannot be had.
    """
    backbone = _untrained(name, device) if untrained else load_backbone(name, device, weights)
    # Hooks stay on the copy that a backbone makes for another side, so they come first.
    lists = [
        module
        for path, module in backbone.model.named_modules()
        if path.split(".")[-1] in ("blocks", "resblocks") and not path.startswith("transformer")
    ]
    chain = [block for some in lists for block in cast(nn.ModuleList, some)]
    if not chain:
        raise UserError(f"{name}: has no transformer blocks to look into; take another model")
    teacher = Teacher(name, backbone)
    seen = square(image, side or teacher.side)[None]
    return [
        _grid(output, name).cpu()
        for output in _watch(backbone.model, chain, blocks, name, teacher, seen)
    ]


def _watch(
    model: nn.Module, chain: Any, blocks: Sequence[int], name: str, run: Any, given: Tensor
) -> list[Any]:
    """What some blocks of a chain give while something runs."""
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
        run(given)
    finally:
        for hook in hooks:
            hook.remove()
    return [outputs[number] for number in blocks]


def _grid(output: Any, name: str) -> Grid:
    """A block's output without prefix tokens, as rows and columns."""
    tokens = output[0] if isinstance(output, tuple) else output
    if tokens.ndim == 4:
        return tokens[0]
    rows = int(tokens.shape[1] ** 0.5)
    prefix = tokens.shape[1] - rows**2
    if tokens.ndim != 3 or prefix > 8:
        raise UserError(f"{name}: its tokens are no square grid; take another model")
    return tokens[0, prefix:].unflatten(0, (rows, rows))


def _untrained(name: str, device: str) -> Any:
    if not name.startswith("timm:"):
        raise UserError(f"--untrained goes with {VIDEO}... and timm:... models, not with {name}")
    argument = name.removeprefix("timm:")
    if argument.partition(".")[0] not in timm.list_models():
        return load_backbone(name, device)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        path = Path(folder) / "untrained.pth"
        torch.save(timm.create_model(argument).state_dict(), path)
        return load_backbone(name, device, path)
