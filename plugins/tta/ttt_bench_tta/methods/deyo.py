"""DeYO: entropy minimization on samples whose prediction depends on the object's shape.

Paper: Lee, Jung, Lee, Park, Shin, Hwang and Yoon 2024, Entropy is not Enough for Test-Time
    Adaptation: From the Perspective of Disentangled Factors (ICLR 2024, arXiv 2403.07366),
    section 4.
Code: Jhyun17/DeYO (MIT licence).
Kind: stream. Weight and bias of the normalization layers learn, those of the last blocks left out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy, entropy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.methods.sar import configure
from ttt_bench_tta.optimizers import TrainingConfig, descend, make_scaled_optimizer

Pixels = Float[Tensor, "batch 3 side side"]
# Destroys the images at some positions of the batch.
Destroy = Callable[[Pixels, Int[Tensor, " kept"]], Pixels]


class DeyoConfig(TrainingConfig):
    """The paper's values for ImageNet-C and ResNet-50 (section 5)."""

    select_margin: float = Field(
        0.5,
        gt=0,
        description="tau_Ent: the entropy below which a sample is tried, in units of ln C",
    )
    weight_margin: float = Field(
        0.4, gt=0, description="Ent0: the entropy of weight 1, in units of ln C"
    )
    plpd: float = Field(
        0.2,
        description="tau_PLPD: the least loss of probability that a destroyed image must cause",
    )
    destroy: Literal["patch", "pixel", "occlusion"] = Field(
        "patch", description="how images are destroyed: patch, pixel or occlusion"
    )
    patches: int = Field(4, ge=1, description="tiles in a row that `patch` shuffles")


@dataclass(frozen=True)
class Margins:
    """The thresholds of a step.

    Attributes:
        select: entropy below which a sample is tried, in nats.
        weight: entropy of weight 1, in nats.
        plpd: the least loss of probability.
    """

    select: float
    weight: float
    plpd: float


def shuffle_tiles(images: Pixels, orders: Int[Tensor, "batch tiles"]) -> Pixels:
    """Return images whose tiles stand in another order.

    Args:
        images: the images; a side that the tiles do not divide is resized and resized back.
        orders: for each image the old place of each new tile, row by row.
    """
    rows, side = math.isqrt(orders.shape[1]), images.shape[-1]
    tile = max(1, side // rows)
    whole = _resize(images, rows * tile)
    # (b, c, rows * tile, rows * tile) -> (b, c, rows, tile, columns, tile)
    cut = whole.unflatten(3, (rows, tile)).unflatten(2, (rows, tile))
    # (b, c, rows, tile, columns, tile) -> (b, rows * columns, c, tile, tile)
    tiles = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    shuffled = tiles[torch.arange(len(images), device=images.device)[:, None], orders]
    # (b, rows * columns, c, tile, tile) -> (b, c, rows, tile, columns, tile)
    grid = shuffled.unflatten(1, (rows, rows)).permute(0, 3, 1, 4, 2, 5)
    # (b, c, rows, tile, columns, tile) -> (b, c, rows * tile, rows * tile)
    return _resize(grid.flatten(4, 5).flatten(2, 3), side)


def _resize(images: Tensor, side: int) -> Tensor:
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def shuffle_pixels(images: Pixels, order: Int[Tensor, " pixels"]) -> Pixels:
    """Return images whose pixels stand in another order, the same for all."""
    # (b, c, h, w) -> (b, c, h*w) -> (b, c, h, w)
    return images.flatten(2)[:, :, order].unflatten(2, images.shape[2:])


def occlude(images: Pixels, size: int, row: int, column: int) -> Pixels:
    """Return images with the mean colour of each in place of a square.

    Args:
        images: the images.
        size: the side of the square in pixels.
        row: its first row.
        column: its first column.
    """
    covered = images.clone()
    covered[:, :, row : row + size, column : column + size] = images.mean(dim=(2, 3), keepdim=True)
    return covered


def learn(
    model: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    pixels: Pixels,
    destroy: Destroy,
    margins: Margins,
) -> Float[Tensor, "batch classes"]:
    """Learn from the samples that a destroyed shape makes less probable; return the logits.

    Args:
        model: the working copy, which is trained in place.
        optimizer: the optimizer of its parameters.
        pixels: the images.
        destroy: destroys images, given them and their positions in the batch.
        margins: the thresholds.
    """
    logits = model(pixels)
    entropies = entropy(logits)
    tried = (entropies < margins.select).nonzero()[:, 0]  # (kept, 1) -> (kept)
    if not len(tried):
        return logits.detach()

    with torch.no_grad():
        destroyed = model(destroy(pixels[tried], tried)).softmax(dim=1)
        probabilities = logits[tried].softmax(dim=1)
        predicted = probabilities.argmax(dim=1, keepdim=True)
        # The pseudo-label probability difference.
        plpd = (probabilities.gather(1, predicted) - destroyed.gather(1, predicted))[:, 0]
    kept = plpd > margins.plpd
    if kept.any():
        chosen, lost = entropies[tried][kept], plpd[kept]
        weights = torch.exp(margins.weight - chosen.detach()) + torch.exp(lost)
        descend((weights * chosen).mean(), optimizer)
    return logits.detach()


class Deyo(WorkingCopyAdapter[DeyoConfig]):
    """`deyo`: entropy minimization weighted by entropy and by what shape contributes.

    Attributes:
        optimizer: the optimizer, which lives as long as the stream.
    """

    Config = DeyoConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model)
        self.optimizer = make_scaled_optimizer(self.model, self.config)

    @override
    def predict(
        self, pixels: Float[Tensor, "batch 3 side side"], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch classes"]:
        config, nats = self.config, math.log(len(self.task.classes))
        margins = Margins(config.select_margin * nats, config.weight_margin * nats, config.plpd)

        def destroy(images: Pixels, positions: Int[Tensor, " kept"]) -> Pixels:
            return self.destroy(images, [rngs[position] for position in positions.tolist()])

        return learn(self.model, self.optimizer, pixels, destroy, margins)

    def destroy(self, images: Pixels, rngs: Sequence[SampleRNG]) -> Pixels:
        """Return images destroyed as configured.

        Args:
            images: the images.
            rngs: the random generators of each; pixels are shuffled by the first one's.
        """
        side = images.shape[-1]
        if self.config.destroy == "occlusion":
            # The release's square of 112 pixels in the middle of 224.
            return occlude(images, side // 2, side // 4, side // 4)
        if self.config.destroy == "pixel":
            order = torch.randperm(side * side, generator=rngs[0].torch("pixels"))
            return shuffle_pixels(images, order.to(images.device))
        count = self.config.patches**2
        orders = [torch.randperm(count, generator=rng.torch("patches")) for rng in rngs]
        return shuffle_tiles(images, torch.stack(orders).to(images.device))
