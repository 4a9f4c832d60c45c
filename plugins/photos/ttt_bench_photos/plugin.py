"""The datasets and the backbone that this plugin adds to ttt-bench."""

from ttt_bench import BackboneSpec, DatasetSpec, hookimpl

SOURCE = "development set of the NIPS 2017 adversarial competition (Kurakin et al. 2018)"
LICENCE = "CC BY 2.0; authors and addresses in ttt_bench_photos/photos.csv"
# A method that needs a dual encoder takes that of its family.
BACKBONES = {"classifier": "lite0", "clip": "lite0"}


@hookimpl
def ttt_bench_datasets() -> list[DatasetSpec]:
    """Return the specs of the photographs, clean and corrupted."""
    return [
        DatasetSpec(
            name="photos",
            summary="256 embedded photographs with labels of ImageNet's 1000 classes",
            code="ttt_bench_photos.photographs:Photos",
            source=SOURCE,
            licence=LICENCE,
            in_distribution=True,
            backbones=BACKBONES,
        ),
        DatasetSpec(
            name="photos-c",
            argument="[CORRUPTION][@SEVERITY][,...]",
            summary="the photographs under 15 corruptions, at severity 3 where none is named; "
            "photos-c:fog@5 for one condition",
            code="ttt_bench_photos.corrupted:PhotosC",
            source=f"{SOURCE}; corruptions of Hendrycks and Dietterich 2019",
            licence=LICENCE,
            citation="Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common "
            "Corruptions and Perturbations, ICLR 2019, arXiv 1903.12261",
            backbones=BACKBONES,
        ),
    ]


@hookimpl
def ttt_bench_backbones() -> list[BackboneSpec]:
    """Return the spec of EfficientNet-Lite0."""
    return [
        BackboneSpec(
            name="lite0",
            summary="EfficientNet-Lite0 with ImageNet weights, which are installed with it",
            code="ttt_bench_photos.lite0:Lite0",
            gives=frozenset(
                {"Classifier", "PatchEncoder", "TrainableClassifier", "BatchNormClassifier"}
            ),
        )
    ]
