"""CropViews: an image and random crops of it, mirrored half of the time.

Source: Shu et al. 2022, arXiv 2209.07511, section 4.1.
"""

from dataclasses import dataclass

from PIL import Image
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop
from typing_extensions import override

from ttt_bench.api.sample import SampleRNG
from ttt_bench.api.views import DrawnViews, ViewSet
from ttt_bench.toolkit.seeded import seeded


@dataclass(frozen=True)
class CropViews(ViewSet):
    """The image, and `count - 1` random crops of it.

    Attributes:
        count: the number of views, the image included.
        scale: the least and the largest area of a crop, as shares of the image's.
    """

    count: int = 64
    scale: tuple[float, float] = (0.08, 1.0)

    @override
    def draw(self, image: Image.Image, rng: SampleRNG, side: int) -> DrawnViews:
        return DrawnViews([image, *random_crops(self, image, rng, side)])


def random_crops(
    view_set: CropViews, image: Image.Image, rng: SampleRNG, side: int
) -> list[Image.Image]:
    """Return the random crops of a view set, each scaled to `side` pixels."""
    crop = Compose([RandomResizedCrop(side, view_set.scale), RandomHorizontalFlip()])
    # torchvision's transforms draw from the global generator.
    with seeded(rng.torch("views").initial_seed()):
        return [crop(image) for _ in range(view_set.count - 1)]
