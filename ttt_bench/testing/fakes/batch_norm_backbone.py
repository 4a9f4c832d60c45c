"""Batch normalization in front of a backbone's network, whose statistics a check can watch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ttt_bench.api.backbone import Backbone

NAME = "batch_norm"


@contextmanager
def batch_norm_in_front(backbone: Backbone) -> Iterator[nn.BatchNorm2d | None]:
    """Normalize the pixels in the network's first layer, inside the `with` block.

    In eval mode the layer's input is unchanged. A copy of the network has a copy of the
    normalization, as for any other layer.

    Args:
        backbone: the backbone whose network to change.

    Yields:
        The normalization, None if no layer takes pixels.
    """
    layer = _first_layer(backbone)
    if layer is None:
        yield None
        return
    normalization = nn.BatchNorm2d(3, eps=1e-12).to(backbone.device).eval().requires_grad_(False)
    layer.add_module(NAME, normalization)
    hook = layer.register_forward_pre_hook(_normalize)
    try:
        yield normalization
    finally:
        hook.remove()
        del layer._modules[NAME]


def _normalize(layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (getattr(layer, NAME)(arguments[0]), *arguments[1:])


@torch.no_grad()
def _first_layer(backbone: Backbone) -> nn.Module | None:
    """Return the innermost module that gets the pixels first."""
    layers: list[nn.Module] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        pixels = arguments[0] if arguments else None
        takes_pixels = isinstance(pixels, Tensor) and pixels.ndim == 4 and pixels.shape[1] == 3
        if takes_pixels and not list(module.children()):
            layers.append(module)

    size = backbone.image_size
    hook = register_module_forward_pre_hook(note)
    try:
        backbone.encode_image(torch.zeros(1, 3, size, size, device=backbone.device))
    finally:
        hook.remove()
    return layers[0] if layers else None
