"""The arithmetic of a forward pass: torch's switches and contexts for each precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ttt_bench.api.precision import Precision

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def forward_precision(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute what is inside in a precision.

    `fp32` is float32 throughout. `tf32` rounds the factors of products to 10 bits of mantissa, on
    GPUs that can. `bf16` and `fp16` are torch's autocast: weights stay in float32, products and
    convolutions are computed in 16 bits.

    Args:
        device: the device that computes.
        precision: the precision.
    """
    if precision in AUTOCAST:
        with torch.autocast(device.type, AUTOCAST[precision]):
            yield
    elif precision == "tf32":
        before = _tf32_switches()
        _set_tf32(True, True)
        try:
            yield
        finally:
            _set_tf32(*before)
    else:
        yield


def switch_tf32_off() -> None:
    """Make float32 mean float32: cuDNN's convolutions are in TF32 by torch's default."""
    _set_tf32(False, False)


def _tf32_switches() -> tuple[bool, bool]:
    products = bool(torch.backends.cuda.matmul.allow_tf32)
    return products, bool(torch.backends.cudnn.allow_tf32)


def _set_tf32(products: bool, convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions
