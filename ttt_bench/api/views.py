"""ViewSet: a recipe of views of an image, the same for every method that names it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ttt_bench.api.sample import SampleRNG


@dataclass(frozen=True)
class DrawnViews:
    """Everything that a view set draws for one sample, before the backbone's transform.

    Attributes:
        images: the images to transform, `ViewSet.images` of them.
        numbers: arrays that `ViewSet.combine` needs besides the transformed images.
    """

    images: list[Image.Image]
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])


class ViewSet(ABC):
    """A recipe of views.

    Two methods that name equal view sets get identical views of a sample. A subclass is a frozen
    dataclass, whose fields are the recipe and stand on the protocol card.

    Attributes:
        count: the number of views of a sample; the first is the image itself.
    """

    count: int

    @property
    def images(self) -> int:
        """The number of images that `draw` returns."""
        return self.count

    @abstractmethod
    def draw(self, image: Image.Image, rng: SampleRNG, side: int) -> DrawnViews:
        """Draw the images that the views are made of, from the image and its generators alone.

        Args:
            image: the image as decoded.
            rng: the random generators of the sample.
            side: the side in pixels of the backbone's input.
        """

    def combine(
        self, pixels: Float[Tensor, "images 3 side side"], numbers: Mapping[str, Tensor]
    ) -> Float[Tensor, "views 3 side side"]:
        """Return the views, given the transformed images and the numbers on the device."""
        return pixels

    def card(self) -> dict[str, Any]:
        """Return the recipe as the protocol card records it."""
        recipe = {name: _plain(value) for name, value in vars(self).items()}
        return {"views": type(self).__name__, **recipe}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
