"""The facts of `imagefolder`, a folder of the user's own."""

from ttt_bench.api.specs import DatasetSpec

IMAGE_FOLDER = DatasetSpec(
    name="imagefolder",
    argument="PATH",
    summary="your own images, one folder per class, as imagefolder:PATH",
    code="ttt_bench.datasets.image_folder:ImageFolder",
    source="the user's own folder",
    licence="as the user's images have it",
)
