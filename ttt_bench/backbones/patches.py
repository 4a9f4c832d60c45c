"""Patch features of timm's networks: which tokens are patches, and grids of other sizes."""

import copy
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, nn

from ttt_bench.api.errors import UserError


def token_grid(
    model: Any, features: Float[Tensor, "batch *shape"], whose: str
) -> Float[Tensor, "batch rows columns dim"]:
    """What a timm model's `forward_features` gives, as a grid without prefix tokens.

    Raises:
        UserError: it is neither a map nor the tokens of a square.
    """
    if features.ndim == 4:
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return features if channels_last else features.permute(0, 2, 3, 1)
    if features.ndim == 3:
        patches = features[:, getattr(model, "num_prefix_tokens", 0) :]
        rows = round(patches.shape[1] ** 0.5)
        if rows**2 == patches.shape[1]:
            return patches.unflatten(1, (rows, rows))
    raise UserError(f"{whose}: its features are no square grid of patches; take another model")


class Resized:
    """A timm model for images of any side: the one it was made for, and a copy for the last other.

    The copy's position embedding is resampled by timm.
    """

    def __init__(self, model: nn.Module, side: int, whose: str) -> None:
        self.model = model
        self.side = side
        self.whose = whose
        self._copy: tuple[int, nn.Module] | None = None

    def patches(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        """What the model's `forward_features` gives for images of any side, as a grid.

        Raises:
            UserError: it takes its own side only, or gives no grid.
        """
        side = pixels.shape[-1]
        if side == self.side:
            return token_grid(
                self.model, cast(Any, self.model).forward_features(pixels), self.whose
            )
        try:
            model = self._at(side)
            features = model.forward_features(pixels)
        # Each family refuses a side in its own way.
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(
                f"{self.whose}: takes no images of {side} pixels ({reason}); its own side is "
                f"{self.side}"
            ) from error
        return token_grid(model, features, self.whose)

    def _at(self, side: int) -> Any:
        if self._copy is None or self._copy[0] != side:
            resized: Any = copy.deepcopy(self.model)
            # Networks without a position embedding take any side as they are.
            if hasattr(resized, "set_input_size"):
                resized.set_input_size(img_size=(side, side))
            self._copy = side, resized
        return self._copy[1]
