"""The built-in datasets, registered like any other plugin's."""

from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.api.specs import DatasetSpec
from ttt_bench.datasets import specs_fine_grained, specs_imagenet


@hookimpl
def ttt_bench_datasets() -> list[DatasetSpec]:
    """The embedded corruption set, anybody's own images, and the datasets of the papers."""
    return [
        DatasetSpec(
            name="cifar10-c-mini",
            summary="embedded slice of CIFAR-10's test images, clean and under 15 corruptions",
            code="ttt_bench.datasets.cifar10_c_mini:Cifar10CMini",
            backbones={"clip": "tiny-clip", "mae": "tiny-mae"},
            source="Krizhevsky 2009 (CIFAR-10); corruptions of Hendrycks and Dietterich 2019",
            licence="CIFAR-10 is published without one; cite Krizhevsky 2009",
        ),
        DatasetSpec(
            name="imagefolder",
            argument="PATH",
            summary="your own images, one folder per class, as imagefolder:PATH",
            code="ttt_bench.datasets.image_folder:ImageFolder",
            backbones={"clip": "open_clip:ViT-B-16/openai", "mae": "mae:vit-large"},
            source="the folder",
            licence="yours to know",
        ),
        *specs_imagenet.specs(),
        *specs_fine_grained.specs(),
    ]
