"""The built-in backbones, registered like any other plugin's."""

from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.api.specs import BackboneSpec

DUAL_ENCODER = frozenset({"DualEncoder", "PatchEncoder", "TrainableClassifier"})
CLASSIFIER = frozenset({"Classifier", "PatchEncoder", "TrainableClassifier"})


@hookimpl
def ttt_bench_backbones() -> list[BackboneSpec]:
    """Return the embedded models, open_clip's models and timm's classifiers."""
    return [
        BackboneSpec(
            name="tiny-clip",
            summary="embedded dual encoder for 32x32 images, trained on CIFAR-10's training images",
            code="ttt_bench.backbones.open_clip:TinyClip",
            gives=DUAL_ENCODER | {"BatchNormClassifier"},
        ),
        BackboneSpec(
            name="tiny-resnet",
            summary="embedded classifier with BatchNorm for 32x32 images, trained on CIFAR-10's "
            "training images",
            code="ttt_bench.backbones.timm_classifier:TinyResnet",
            gives=CLASSIFIER | {"BatchNormClassifier"},
        ),
        BackboneSpec(
            name="open_clip",
            argument="ARCHITECTURE/TAG",
            summary="any open_clip model and pretrained tag, as open_clip:ViT-B-16/openai",
            code="ttt_bench.backbones.open_clip:OpenClipBackbone",
            gives=DUAL_ENCODER,
        ),
        BackboneSpec(
            name="timm",
            argument="NAME",
            summary="any timm classifier with its own head, as timm:resnet50.a1_in1k",
            code="ttt_bench.backbones.timm_classifier:TimmBackbone",
            gives=CLASSIFIER,
            by_argument="ttt_bench.backbones.timm_classifier:spec_of_model",
        ),
    ]
