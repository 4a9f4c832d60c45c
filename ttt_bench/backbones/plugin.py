"""The built-in backbones, registered like any other plugin's."""

from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.api.specs import BackboneSpec

DUAL_ENCODER = frozenset({"DualEncoder", "PatchEncoder", "TrainableClassifier"})
HEAD = frozenset({"Classifier", "TrainableClassifier"})
CLASSIFIER = HEAD | {"PatchEncoder"}


@hookimpl
def ttt_bench_backbones() -> list[BackboneSpec]:
    """Return the embedded models, and those of open_clip, timm, torchvision and RobustBench."""
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
            summary="any open_clip model and pretrained tag, as open_clip:ViT-B-16/openai, "
            "open_clip:hf-hub:ORG/NAME or open_clip:local-dir:FOLDER",
            code="ttt_bench.backbones.open_clip:OpenClipBackbone",
            gives=DUAL_ENCODER,
        ),
        BackboneSpec(
            name="timm",
            argument="NAME",
            summary="any timm classifier with its own head, as timm:resnet50.a1_in1k, "
            "timm:hf-hub:ORG/NAME or timm:local-dir:FOLDER",
            code="ttt_bench.backbones.timm_classifier:TimmBackbone",
            gives=CLASSIFIER,
            by_argument="ttt_bench.backbones.timm_classifier:spec_of_model",
        ),
        BackboneSpec(
            name="torchvision",
            argument="NAME[/WEIGHTS]",
            summary="any torchvision classifier and member of its weights enum, as "
            "torchvision:resnet50/IMAGENET1K_V2",
            code="ttt_bench.backbones.torchvision_classifier:TorchvisionBackbone",
            gives=HEAD,
            by_argument="ttt_bench.backbones.torchvision_classifier:spec_of_model",
        ),
        BackboneSpec(
            name="robustbench",
            argument="NAME",
            summary="checkpoints of RobustBench's CIFAR models, as robustbench:Standard with "
            "--weights FILE",
            code="ttt_bench.backbones.robustbench:RobustBenchBackbone",
            gives=HEAD | {"BatchNormClassifier"},
        ),
    ]
