"""Patch features of timm's networks, as a grid and for images of any size."""

import copy
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, nn

from ttt_bench.api.errors import UserError


def token_grid(
    model: Any, features: Float[Tensor, "batch *shape"], name: str
) -> Float[Tensor, "batch rows columns dim"]:
    """Return the output of a timm model's `forward_features` as a grid without prefix tokens.

    Args:
        model: the timm model.
        features: a map of channels, or tokens.
        name: the model's name, for the message.

    Raises:
        UserError: the features are neither a map nor the tokens of a square.
    """
    if features.ndim == 4:
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return features if channels_last else features.permute(0, 2, 3, 1)  # (b, h, w, d)
    if features.ndim == 3:
        patches = features[:, getattr(model, "num_prefix_tokens", 0) :]
        rows = round(patches.shape[1] ** 0.5)
        if rows**2 == patches.shape[1]:
            return patches.unflatten(1, (rows, rows))  # (b, h, w, d)
    raise UserError(f"{name}: its features are no square grid of patches; take another model")


class Resized:
    """A timm model that takes images of any side, as far as its architecture does.

    For a side other than its own, a copy of the model has its position embedding resampled by timm.
    The copy for the last such side is kept.

    Attributes:
        model: the timm model.
        side: the side in pixels that the model was made for.
        name: the model's name, for messages.
    """

    def __init__(self, model: nn.Module, side: int, name: str) -> None:
        self.model = model
        self.side = side
        self.name = name
        self._copy: tuple[int, nn.Module] | None = None

    def patches(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        """Return the output of the model's `forward_features` as a grid.

        Raises:
            UserError: the model does not take images of this side, or gives no grid.
        """
        side = pixels.shape[-1]
        if side == self.side:
            return token_grid(self.model, cast(Any, self.model).forward_features(pixels), self.name)
        try:
            model = self._at(side)
            features = model.forward_features(pixels)
        # Each family refuses a side in its own way.
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(
                f"{self.name}: takes no images of {side} pixels ({reason}); its own side is "
                f"{self.side}"
            ) from error
        return token_grid(model, features, self.name)

    def _at(self, side: int) -> Any:
        if self._copy is None or self._copy[0] != side:
            resized: Any = copy.deepcopy(self.model)
            # Networks without a position embedding take any side as they are.
            if hasattr(resized, "set_input_size"):
                resized.set_input_size(img_size=(side, side))
            self._copy = side, resized
        return self._copy[1]
