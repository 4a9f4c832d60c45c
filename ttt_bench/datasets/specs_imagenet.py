"""What is known of the ImageNet family and of CIFAR before anything of it is read."""

from ttt_bench.api.specs import DatasetSpec

LARGE = {"clip": "open_clip:ViT-B-16/openai", "mae": "mae:vit-large"}
# tiny-clip has learned from CIFAR-10's training images, so it is no zero-shot model there.
SMALL = {"clip": "open_clip:ViT-B-16/openai", "mae": "tiny-mae"}
CHOICE = "[CORRUPTION][@SEVERITY][,...][:generated"
TERMS = "ImageNet's terms of access: research and education, not commercial"
OWNERS = "the images belong to their makers"
CORRUPTIONS = (
    "Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and "
    "Perturbations, ICLR 2019, arXiv 1903.12261"
)


def specs() -> list[DatasetSpec]:
    """ImageNet, its five test sets of other origin, CIFAR-10 and CIFAR-10-C."""
    return [*_imagenet(), *_cifar()]


def _imagenet() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="imagenet",
            argument="[PATH]",
            summary="validation images of ILSVRC2012; imagenet:PATH for a selection of ImageNet's",
            code="ttt_bench.datasets.imagenet:ImageNet",
            backbones=LARGE,
            source="https://image-net.org",
            licence=TERMS,
            citation="Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV "
            "2015, arXiv 1409.0575",
        ),
        DatasetSpec(
            name="imagenet-a",
            summary="7,500 photographs of 200 ImageNet classes that ResNet-50 gets wrong",
            code="ttt_bench.datasets.imagenet:ImageNetA",
            backbones=LARGE,
            source="https://github.com/hendrycks/natural-adv-examples",
            licence=f"MIT; {OWNERS}",
            citation="Hendrycks et al., Natural Adversarial Examples, CVPR 2021, arXiv 1907.07174",
        ),
        DatasetSpec(
            name="imagenet-r",
            summary="30,000 renditions (art, toys, tattoos, ...) of 200 ImageNet classes",
            code="ttt_bench.datasets.imagenet:ImageNetR",
            backbones=LARGE,
            source="https://github.com/hendrycks/imagenet-r",
            licence=f"published without one; {OWNERS}",
            citation="Hendrycks et al., The Many Faces of Robustness, ICCV 2021, arXiv 2006.16241",
        ),
        DatasetSpec(
            name="imagenet-v2",
            summary="10,000 new photographs of ImageNet's classes, matched frequency",
            code="ttt_bench.datasets.imagenet:ImageNetV2",
            backbones=LARGE,
            source="https://github.com/modestyachts/ImageNetV2",
            licence=f"MIT; {OWNERS}",
            citation="Recht et al., Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019, "
            "arXiv 1902.10811",
        ),
        DatasetSpec(
            name="imagenet-sketch",
            summary="50,889 black and white sketches of ImageNet's classes",
            code="ttt_bench.datasets.imagenet:ImageNetSketch",
            backbones=LARGE,
            source="https://github.com/HaohanWang/ImageNet-Sketch",
            licence=f"MIT; {OWNERS}",
            citation="Wang et al., Learning Robust Global Representations by Penalizing Local "
            "Predictive Power, NeurIPS 2019, arXiv 1905.13549",
        ),
        DatasetSpec(
            name="imagenet-c",
            argument=f"[{CHOICE}[=PATH]]]",
            summary="ImageNet under 15 corruptions at 5 severities; imagenet-c:fog@5 for one of "
            "them, imagenet-c:fog@5:generated to make it from ImageNet's images",
            code="ttt_bench.datasets.imagenet_c:ImageNetC",
            backbones=LARGE,
            source="https://zenodo.org/records/2235448",
            licence=f"CC BY 4.0; {TERMS}",
            citation=CORRUPTIONS,
        ),
    ]


def _cifar() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="cifar10",
            summary="CIFAR-10's 10,000 test images, and its training images",
            code="ttt_bench.datasets.cifar:Cifar10",
            backbones=SMALL,
            source="https://www.cs.toronto.edu/~kriz/cifar.html",
            licence="published without one; cite Krizhevsky 2009",
            citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        ),
        DatasetSpec(
            name="cifar10-c",
            argument=f"[{CHOICE}]]",
            summary="CIFAR-10 under 15 corruptions at 5 severities; cifar10-c:fog@5 for one of "
            "them, cifar10-c:fog@5:generated to make it, harsher, from CIFAR-10's images",
            code="ttt_bench.datasets.cifar:Cifar10C",
            backbones=SMALL,
            source="https://zenodo.org/records/2535967",
            licence="CC BY 4.0",
            citation=CORRUPTIONS,
        ),
    ]
