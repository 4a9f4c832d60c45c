"""The facts of ImageNet and of the sets that share its classes."""

from ttt_bench.api.acquisition import Archive, HowToGet
from ttt_bench.api.specs import DatasetSpec
from ttt_bench.datasets.facts.corruptions import CITATION, SELECTION
from ttt_bench.datasets.facts.rows import ClassFoldersSpec

TERMS = "ImageNet's terms of access: research and education, not commercial"
OWNERS = "the images belong to their makers"
HENDRYCKS = "https://people.eecs.berkeley.edu/~hendrycks"
V2_FOLDER = "imagenetv2-matched-frequency-format-val"
ZENODO = "https://zenodo.org/records/2235448"

IMAGENET = ClassFoldersSpec(
    name="imagenet",
    argument="[PATH]",
    summary="validation images of ILSVRC2012; imagenet:PATH for a selection of ImageNet's",
    code="ttt_bench.datasets.imagenet:ImageNet",
    source="https://image-net.org",
    licence=TERMS,
    citation="Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015, "
    "arXiv 1409.0575",
    in_distribution=True,
    folders=("imagenet", "ImageNet", "ILSVRC2012"),
    image_folders=("val", "images/val", ""),
    total=50_000,
    per_class=50,
    remedy="complete it, or name a selection of ImageNet's images as imagenet:PATH",
    how_to_get=HowToGet(
        steps=(
            "Register at https://image-net.org and accept its terms of access.",
            "Download ILSVRC2012_img_val.tar (6,744,924,160 bytes, md5 "
            "29b22e2961454d5413ddabcf34fc5622).",
            "Sort its images into imagenet/val/<WordNet id>/, as valprep.sh of "
            "https://github.com/soumith/imagenetloader.torch does.",
        ),
        gigabytes=6.7,
    ),
)

IMAGENET_A = ClassFoldersSpec(
    name="imagenet-a",
    summary="7,500 photographs of 200 ImageNet classes that ResNet-50 gets wrong",
    code="ttt_bench.datasets.imagenet:ImageNetA",
    source="https://github.com/hendrycks/natural-adv-examples",
    licence=f"MIT; {OWNERS}",
    citation="Hendrycks et al., Natural Adversarial Examples, CVPR 2021, arXiv 1907.07174",
    folders=("imagenet-a", "ImageNet-A", "imagenet-adversarial"),
    image_folders=("", "imagenet-a"),
    total=7_500,
    class_list="imagenet_a_indices.txt",
    how_to_get=HowToGet(
        archives=(
            Archive(
                url=f"{HENDRYCKS}/imagenet-a.tar",
                hash="sha256:3bb5632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
                size=687_552_512,
                folder="imagenet-a",
                inner="imagenet-a",
            ),
        ),
        gigabytes=0.7,
    ),
)

IMAGENET_R = ClassFoldersSpec(
    name="imagenet-r",
    summary="30,000 renditions (art, toys, tattoos, ...) of 200 ImageNet classes",
    code="ttt_bench.datasets.imagenet:ImageNetR",
    source="https://github.com/hendrycks/imagenet-r",
    licence=f"published without a licence; {OWNERS}",
    citation="Hendrycks et al., The Many Faces of Robustness, ICCV 2021, arXiv 2006.16241",
    folders=("imagenet-r", "ImageNet-R", "imagenet-rendition"),
    image_folders=("", "imagenet-r"),
    total=30_000,
    class_list="imagenet_r_indices.txt",
    how_to_get=HowToGet(
        archives=(
            Archive(
                url=f"{HENDRYCKS}/imagenet-r.tar",
                hash="sha256:18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
                size=2_191_079_936,
                folder="imagenet-r",
                inner="imagenet-r",
            ),
        ),
        gigabytes=2.2,
    ),
)

IMAGENET_V2 = ClassFoldersSpec(
    name="imagenet-v2",
    summary="10,000 new photographs of ImageNet's classes, matched frequency",
    code="ttt_bench.datasets.imagenet:ImageNetV2",
    source="https://github.com/modestyachts/ImageNetV2",
    licence=f"MIT; {OWNERS}",
    citation="Recht et al., Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019, arXiv "
    "1902.10811",
    folders=("imagenet-v2", "imagenetv2", "ImageNetV2", V2_FOLDER),
    image_folders=("", V2_FOLDER),
    total=10_000,
    per_class=10,
    how_to_get=HowToGet(
        archives=(
            Archive(
                url="https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/"
                "imagenetv2-matched-frequency.tar.gz",
                hash="sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
                size=1_264_079_360,
                folder=V2_FOLDER,
                inner=V2_FOLDER,
            ),
        ),
        gigabytes=1.3,
    ),
)

IMAGENET_SKETCH = ClassFoldersSpec(
    name="imagenet-sketch",
    summary="50,889 black and white sketches of ImageNet's classes",
    code="ttt_bench.datasets.imagenet:ImageNetSketch",
    source="https://github.com/HaohanWang/ImageNet-Sketch",
    licence=f"MIT; {OWNERS}",
    citation="Wang et al., Learning Robust Global Representations by Penalizing Local Predictive "
    "Power, NeurIPS 2019, arXiv 1905.13549",
    folders=("imagenet-sketch", "ImageNet-Sketch"),
    image_folders=("", "images", "sketch"),
    total=50_889,
    how_to_get=HowToGet(
        steps=(
            "Download ImageNet-Sketch.zip (7.8 GB) from the address that "
            "https://github.com/HaohanWang/ImageNet-Sketch gives.",
            "Unpack it, so that imagenet-sketch/sketch/<WordNet id>/ holds the images.",
        ),
        gigabytes=8.4,
    ),
)

IMAGENET_C = DatasetSpec(
    name="imagenet-c",
    argument=f"[{SELECTION}[=PATH]]]",
    summary="ImageNet under 15 corruptions at 5 severities; imagenet-c:fog@5 for one of them, "
    "imagenet-c:fog@5:generated to make it from ImageNet's images",
    code="ttt_bench.datasets.imagenet_c:ImageNetC",
    source=ZENODO,
    licence=f"CC BY 4.0; {TERMS}",
    citation=CITATION,
    folders=("imagenet-c", "ImageNet-C"),
    how_to_get=HowToGet(
        archives=tuple(
            Archive(url=f"{ZENODO}/files/{name}.tar", hash=f"md5:{md5}", size=size)
            for name, md5, size in (
                ("blur", "2d8e81fdd8e07fef67b9334fa635e45c", 7_112_704_951),
                ("digital", "89157860d7b10d5797849337ca2e5c03", 7_757_510_705),
                ("noise", "e80562d7f6c3f8834afb1ecf27252745", 22_565_673_785),
                ("weather", "33ffea4db4d93fe4a428c40a6ce0c25d", 12_797_438_995),
            )
        ),
        gigabytes=50.2,
    ),
)

ROWS = (IMAGENET, IMAGENET_A, IMAGENET_R, IMAGENET_V2, IMAGENET_SKETCH, IMAGENET_C)
