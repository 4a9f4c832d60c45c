"""The teacher of the self-supervised APM: a frozen backbone's patch features of a square."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ttt_bench import Backbone, PatchEncoder, UserError

Patches = Float[Tensor, "batch rows columns dim"]


class Teacher:
    """A backbone that gives patch features after its last norm, without CLS and register tokens.

    It sees the same square as the network, with its own normalization, so both grids lie on the
    same pixels. (The release takes the first 1024 tokens, CLS and registers included, of BGR pixels
    from 0 to 255.)

    Attributes:
        name: the name that the user gave to the backbone.
        backbone: the frozen model.
        side: pixels per side of its input.
        rows: patches per side.
        features: the size of a patch feature.
    """

    def __init__(self, name: str, backbone: Backbone, side: int | None = None) -> None:
        """Measure the grid on a blank image.

        Args:
            name: the name of the backbone, for messages.
            backbone: the frozen model.
            side: pixels per side of the input; None for the backbone's own.

        Raises:
            UserError: the backbone gives no patch features, or no square grid of them at that side.
        """
        if not isinstance(backbone, PatchEncoder):
            raise UserError(
                f"{name}: gives no patch features; take a backbone that does, such as tiny-clip"
            )
        self.name = name
        self.backbone = backbone
        self.side = side or backbone.image_size
        transform = backbone.card()["transform"]
        self.mean, self.std = (
            torch.tensor(transform[key], device=backbone.device).view(3, 1, 1)  # (3, 1, 1)
            for key in ("mean", "std")
        )
        patches = self(torch.zeros(1, 3, self.side, self.side, dtype=torch.uint8))
        _, self.rows, columns, self.features = patches.shape
        if self.rows != columns:
            raise UserError(
                f"{name}: its grid of {self.rows} x {columns} patches is not square; take another"
            )

    @torch.no_grad()
    def __call__(self, squares: UInt8[Tensor, "batch 3 side side"]) -> Patches:
        """Return the patch features of squares."""
        pixels = squares.to(self.backbone.device).float() / 255
        return self.backbone.encode_patches((pixels - self.mean) / self.std)
