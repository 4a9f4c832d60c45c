"""The facts of CIFAR-10, CIFAR-10-C and the embedded `cifar10-c-mini`."""

from ttt_bench.api.acquisition import Archive, HowToGet
from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.specs import DatasetSpec
from ttt_bench.datasets.facts.corruptions import CITATION, SELECTION

# Names and templates that CLIP's authors published for CIFAR-10 (Radford et al. 2021).
CIFAR10_CLASSES = ClassSet(
    names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    templates=tuple(
        f"{start} {{}}."
        for article in ("a", "the")
        for start in (
            f"a photo of {article}",
            f"a blurry photo of {article}",
            f"a black and white photo of {article}",
            f"a low contrast photo of {article}",
            f"a high contrast photo of {article}",
            f"a bad photo of {article}",
            f"a good photo of {article}",
            f"a photo of {article} small",
            f"a photo of {article} big",
        )
    ),
)
LICENCE = "CIFAR-10 is published without a licence; cite Krizhevsky 2009"

CIFAR10_C_MINI = DatasetSpec(
    name="cifar10-c-mini",
    argument="[[validation,][clean,][CORRUPTION][@SEVERITY][,...]]",
    summary="embedded: 200 of CIFAR-10's test images, clean and under 15 corruptions at "
    "severity 5; cifar10-c-mini:@3 for severity 3, cifar10-c-mini:fog@5 for one condition, "
    "cifar10-c-mini:validation for training images to choose hyper-parameters on, never test "
    "images",
    code="ttt_bench.datasets.cifar10_c_mini:Cifar10CMini",
    source="Krizhevsky 2009 (CIFAR-10); corruptions of Hendrycks and Dietterich 2019 with "
    "CIFAR-10-C's own strengths: published CIFAR-10-C numbers are of the same distribution, not of "
    "the same images",
    licence=LICENCE,
)

CIFAR10 = DatasetSpec(
    name="cifar10",
    summary="CIFAR-10's 10,000 test images, and its training images",
    code="ttt_bench.datasets.cifar:Cifar10",
    source="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence=LICENCE,
    citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    folders=("cifar10", "CIFAR10", "cifar-10", "cifar-10-batches-bin", "cifar-10-batches-py"),
    how_to_get=HowToGet(
        archives=(
            Archive(
                url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                hash="md5:c32a1d4ab5d03f1284b67883e8d87530",
                size=170_052_171,
                folder="cifar-10-batches-bin",
                inner="cifar-10-batches-bin",
            ),
        ),
        gigabytes=0.2,
    ),
)

CIFAR10_C = DatasetSpec(
    name="cifar10-c",
    argument=f"[{SELECTION}]]",
    summary="CIFAR-10 under 15 corruptions at 5 severities; cifar10-c:fog@5 for one of them, "
    "cifar10-c:fog@5:generated to make it, harsher, from CIFAR-10's images",
    code="ttt_bench.datasets.cifar:Cifar10C",
    source="https://zenodo.org/records/2535967",
    licence="CC BY 4.0",
    citation=CITATION,
    folders=("cifar10-c", "CIFAR-10-C"),
    how_to_get=HowToGet(
        archives=(
            Archive(
                url="https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",
                hash="md5:56bf5dcef84df0e2308c6dcbcbbd8499",
                size=2_918_471_680,
                folder="CIFAR-10-C",
                inner="CIFAR-10-C",
            ),
        ),
        gigabytes=2.9,
    ),
)
