"""Inputs: everything that a method asks its task for, sample by sample."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ttt_bench.api.sample import SampleRNG
from ttt_bench.api.views import ViewSet

FLOAT_BYTES = 4


@dataclass(frozen=True)
class NormalDraw:
    """Standard normal numbers of a sample, drawn by one generator, one tensor after another.

    Attributes:
        purpose: the purpose of the generator, as in `rng.torch(purpose)`.
        shapes: name and shape of every tensor, in the order of the draws.
    """

    purpose: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def bytes(self) -> int:
        """The size of the numbers of one sample, in bytes."""
        return FLOAT_BYTES * sum(torch.Size(shape).numel() for _, shape in self.shapes)

    def make(self, rng: SampleRNG, into: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Draw the numbers of one sample on the CPU.

        Args:
            rng: the random generators of the sample.
            into: tensors of these names and shapes to fill, None for new ones.
        """
        generator = rng.torch(self.purpose)
        into = into or {name: torch.empty(shape) for name, shape in self.shapes}
        return {name: into[name].normal_(generator=generator) for name, _ in self.shapes}


@dataclass(frozen=True)
class Inputs:
    """Everything that `adapt` asks the task for; loaders make it ahead of the method.

    Whatever is asked for and not declared is made when it is asked for: results are the same, only
    later. View sets and further backbones are part of the protocol card and must be declared.

    Attributes:
        image_features: whether `task.encode_image` is called.
        pixels: sizes that `task.pixels` is called with; None is the backbone's own.
        view_features: view sets that `task.encode_views` is called with.
        view_pixels: view sets that `task.view_pixels` is called with.
        draws: draws that `task.draw` is called with.
        images: whether `sample.image` is read.
        further_backbones: names of backbones besides the run's own that the method loads with
            `load_backbone`, such as a reward model. The card records their weights.
    """

    image_features: bool = True
    pixels: tuple[int | None, ...] = ()
    view_features: tuple[ViewSet, ...] = ()
    view_pixels: tuple[ViewSet, ...] = ()
    draws: tuple[NormalDraw, ...] = ()
    images: bool = False
    further_backbones: tuple[str, ...] = ()

    @property
    def view_sets(self) -> tuple[ViewSet, ...]:
        """Every view set, each once."""
        return tuple(dict.fromkeys((*self.view_features, *self.view_pixels)))
