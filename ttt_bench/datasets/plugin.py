"""The built-in datasets, registered like any other plugin's."""

from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.api.specs import DatasetSpec
from ttt_bench.datasets.facts import cifar, fine_grained, imagenet, packed
from ttt_bench.datasets.facts.image_folder import IMAGE_FOLDER


@hookimpl
def ttt_bench_datasets() -> list[DatasetSpec]:
    """Return the embedded corruption set, the user's own images and the papers' datasets."""
    return [
        cifar.CIFAR10_C_MINI,
        IMAGE_FOLDER,
        *packed.ROWS,
        *imagenet.ROWS,
        cifar.CIFAR10,
        cifar.CIFAR10_C,
        *fine_grained.ROWS,
    ]
