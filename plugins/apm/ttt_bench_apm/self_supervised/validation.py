"""Validation errors of a network on held-out photographs, beside those of the mean answers."""

from collections import defaultdict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ttt_bench_apm.self_supervised.images import to_unit_range
from ttt_bench_apm.self_supervised.locations import lattice
from ttt_bench_apm.self_supervised.network import FieldSizes, PerceptionField
from ttt_bench_apm.self_supervised.shards import Shards
from ttt_bench_apm.self_supervised.targets import average_colours

# Training photographs, spread over all of them, that the mean field is made of.
MEAN_IMAGES = 4096
BATCH = 32


class Validation:
    """Mean squared errors on held-out photographs, at the teacher's patches.

    The mean field is the mean of the teacher's features over training photographs, for every patch
    of the grid: the best prediction that does not depend on the image. So is the mean of colours.

    Attributes:
        mean_field: the mean field `[rows columns dim]`.
        mean_colours: the mean colour of every cell `[locations 3]`.
    """

    def __init__(
        self,
        shards: Shards,
        training: list[int],
        held_out: list[int],
        sizes: FieldSizes,
        device: torch.device,
        workers: int,
    ) -> None:
        """Compute the mean field and the mean colours.

        Args:
            shards: images with the teacher's features.
            training: numbers of the training photographs.
            held_out: numbers of the photographs that errors are measured on.
            sizes: the sizes of the networks to validate.
            device: the device of the networks.
            workers: loader processes.
        """
        self.loader = DataLoader(Subset(shards, held_out), BATCH, num_workers=workers)
        self.sizes = sizes
        self.device = device
        step = max(1, len(training) // MEAN_IMAGES)
        photographs = Subset(shards, training[::step])
        fields, colours = zip(
            *(
                (patches.float().sum(0), self._colours(images).sum(0))
                for images, patches in DataLoader(photographs, BATCH, num_workers=workers)
            ),
            strict=True,
        )
        self.mean_field = (sum(fields, torch.zeros(())) / len(photographs)).to(device)
        self.mean_colours = (sum(colours, torch.zeros(())) / len(photographs)).to(device)

    def _colours(self, images: Tensor) -> Float[Tensor, "batch locations 3"]:
        return average_colours(to_unit_range(images), self.sizes.patch)

    @torch.no_grad()
    def __call__(self, network: PerceptionField) -> dict[str, float]:
        """Return the errors of a network and of the means.

        Returns:
            `val_feature` and `val_rgb` of the network, `mean_field` and `mean_rgb` of the means,
            and `gain`, the mean field's error divided by the network's.
        """
        sums: dict[str, float] = defaultdict(float)
        count = 0
        for images, patches in self.loader:
            patch_centres = lattice(self.sizes.grid, patches.shape[1], self.device)
            cells = lattice(self.sizes.grid, self.sizes.grid, self.device)
            targets = patches.to(self.device).float()  # (B, rows, columns, D)
            colours = self._colours(images).to(self.device)  # (B, cells, 3)
            trigger = network.trigger(to_unit_range(images.to(self.device)))
            field = network.field(trigger, patch_centres)
            rgb = network.rgb(trigger, cells, network.field(trigger, cells))
            errors = {
                # (B, rows, columns, D) -> (B, rows*columns, D)
                "val_feature": F.mse_loss(field, targets.flatten(1, 2)),
                "mean_field": F.mse_loss(self.mean_field.expand_as(targets), targets),
                "val_rgb": F.mse_loss(rgb, colours),
                "mean_rgb": F.mse_loss(self.mean_colours.expand_as(colours), colours),
            }
            for name, error in errors.items():
                sums[name] += error.item() * len(images)
            count += len(images)
        means = {name: total / count for name, total in sums.items()}
        return {**means, "gain": means["mean_field"] / means["val_feature"]}
