"""NaNBackbone: a backbone that gives NaN while it is told to."""

from typing import Any

import torch
from torch import Tensor

from ttt_bench.api.backbone import Backbone
from ttt_bench.testing.fakes.spy import spy_on


class NaNBackbone:
    """A backbone whose pixels and image features are NaN while it is enabled.

    Attributes:
        enabled: whether they are.
        backbone: what to give a method.
    """

    def __init__(self, healthy: Backbone) -> None:
        self.enabled = False
        self.backbone = spy_on(healthy, self._on_read)

    def _on_read(self, name: str, value: Any) -> Any:
        if name not in ("preprocess", "encode_image"):
            return value

        def computed(*arguments: Any, **named: Any) -> Tensor:
            result = value(*arguments, **named)
            return torch.full_like(result, torch.nan) if self.enabled else result

        return computed
