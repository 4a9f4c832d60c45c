"""How well a network answers on photographs it never fitted, beside two who never look."""

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

# Of so many fitting photographs the mean field is made.
MEAN_IMAGES = 4096
BATCH = 32


class Validation:
    """Mean squared errors on held-out photographs, at the teacher's own patches.

    The mean field is, for every patch of the grid, the mean of the teacher's features over fitting
    photographs: the best that an answer which does not look at the image can be.
    """

    def __init__(
        self,
        shards: Shards,
        fitting: list[int],
        held_out: list[int],
        sizes: FieldSizes,
        device: torch.device,
        workers: int,
    ) -> None:
        self.loader = DataLoader(Subset(shards, held_out), BATCH, num_workers=workers)
        self.sizes = sizes
        self.device = device
        spread = range(0, len(fitting), max(1, len(fitting) // MEAN_IMAGES))
        some = Subset(shards, [fitting[place] for place in spread])
        fields, colours = zip(
            *(
                (patches.float().sum(0), self._colours(images).sum(0))
                for images, patches in DataLoader(some, BATCH, num_workers=workers)
            ),
            strict=True,
        )
        self.mean_field = (sum(fields, torch.zeros(())) / len(some)).to(device)
        self.mean_colours = (sum(colours, torch.zeros(())) / len(some)).to(device)

    def _colours(self, images: Tensor) -> Float[Tensor, "batch locations 3"]:
        return average_colours(to_unit_range(images), self.sizes.patch)

    @torch.no_grad()
    def __call__(self, network: PerceptionField) -> dict[str, float]:
        """Errors of the network (`val_...`) and of the means, and how much smaller the first is."""
        sums: dict[str, float] = defaultdict(float)
        count = 0
        for images, patches in self.loader:
            grid = lattice(self.sizes.grid, patches.shape[1], self.device)
            cells = lattice(self.sizes.grid, self.sizes.grid, self.device)
            wanted = patches.to(self.device).float()
            trigger = network.trigger(to_unit_range(images.to(self.device)))
            field = network.field(trigger, grid)
            rgb = network.rgb(trigger, cells, network.field(trigger, cells))
            colours = self._colours(images).to(self.device)
            errors = {
                "val_feature": F.mse_loss(field, wanted.flatten(1, 2)),
                "mean_field": F.mse_loss(self.mean_field.expand_as(wanted), wanted),
                "val_rgb": F.mse_loss(rgb, colours),
                "mean_rgb": F.mse_loss(self.mean_colours.expand_as(colours), colours),
            }
            for name, error in errors.items():
                sums[name] += error.item() * len(images)
            count += len(images)
        means = {name: total / count for name, total in sums.items()}
        return {**means, "gain": means["mean_field"] / means["val_feature"]}
