"""The hooks: methods and numbers of the original releases that this package adds to ttt-bench."""

from collections.abc import Mapping
from typing import Any

from ttt_bench import CLASSIFIER_FAMILY, AdapterSpec, GoldenSpec, hookimpl

TRAINABLE = frozenset({"TrainableClassifier"})
BATCH_NORM = frozenset({"BatchNormClassifier"})
EATA = "Niu et al. 2022, Efficient Test-Time Model Adaptation without Forgetting (arXiv 2204.02610)"
SOURCE_IMAGES = "it sees training images, without their labels, before the test"

VITS = (
    "timm:vit_base_patch16_224",
    "timm:vit_base_patch16_224.augreg_in1k",
    "timm:vit_base_patch16_224.augreg2_in21k_ft_in1k",
)
# SAR's release for ViT-B/16, for its own method and for its copies of TENT, EATA and DeYO.
VIT_RATES: dict[str, Mapping[str, Any]] = {name: {"lr": 1e-3} for name in VITS}

# The values below are the releases' for CIFAR-10-C. Batches keep 64 samples where the releases have
# 200, which is all that `cifar10-c-mini` has of a corruption.
TENT_CIFAR = {"optimizer": "adam", "lr": 1e-3}
# EATA's release has no code for CIFAR. Margin, alpha and the number of images are those of ROID's
# release for EATA (cfgs/cifar10_c/eata.yaml), which has Adam with 1e-3. SGD with 5e-3 is from
# section 5.1 of the paper, whose text this comment has not been compared with.
ETA_CIFAR = {"lr": 5e-3, "similarity_margin": 0.4}
EATA_CIFAR = {**ETA_CIFAR, "fisher_alpha": 1.0}
# MEMO's CIFAR networks have no BatchNorm; `prior` stays as for ImageNet.
MEMO_CIFAR = {"views": 32, "lr": 5e-3}
COTTA_CIFAR = {
    "optimizer": "adam",
    "lr": 1e-3,
    "restore": 0.01,
    "threshold": 0.92,
    "loss": "cross-entropy",
}
# cfgs/cifar10_c/roid.yaml of ROID's release: Adam with 1e-3, all else as for ImageNet.
ROID_CIFAR = {"optimizer": "adam", "lr": 1e-3}


# Differences relative to the largest logit. Where gradients go through a ReLU network, a unit that
# flips by rounding is seen in all later batches.
TOLERANCES = {
    f"{case}/logits": 3e-3
    for case in (
        "tent",
        "tent_sgd",
        "memo_prior16",
        "eta_e07",
        "sar_bn",
        "cotta",
        "cotta_cifar",
        "rotta_mem8_freq4",
        "deyo",
        "deyo_occ",
        "roid",
        "roid_noconsist",
    )
}


def _spec(name: str, code: str, **fields: Any) -> AdapterSpec:
    return AdapterSpec(
        name=name, code=f"ttt_bench_tta.methods.{code}", family=CLASSIFIER_FAMILY, **fields
    )


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return the methods."""
    return [*_without_training(), *_by_entropy(), *_by_other_losses()]


def _without_training() -> list[AdapterSpec]:
    return [
        _spec(
            "norm",
            "norm:Norm",
            summary="normalizes by the statistics of the test batch",
            kind="batch",
            paper="Schneider et al. 2020, Improving robustness against common corruptions by "
            "covariate shift adaptation (arXiv 2006.16971)",
            needs=BATCH_NORM,
        ),
        _spec(
            "t3a",
            "t3a:T3A",
            summary="classifies by the most confident features of every class so far",
            kind="stream",
            paper="Iwasawa and Matsuo 2021, Test-Time Classifier Adjustment Module for "
            "Model-Agnostic Domain Generalization (NeurIPS 2021)",
            needs=TRAINABLE,
        ),
        _spec(
            "lame",
            "lame:Lame",
            summary="makes the predictions of a batch agree where features are alike",
            kind="batch",
            paper="Boudiaf et al. 2022, Parameter-free Online Test-time Adaptation "
            "(arXiv 2201.05718)",
        ),
    ]


def _by_entropy() -> list[AdapterSpec]:
    return [
        _spec(
            "tent",
            "tent:Tent",
            summary="lowers the entropy of every batch by its normalization layers",
            kind="stream",
            paper="Wang et al. 2021, Tent: Fully Test-Time Adaptation by Entropy Minimization "
            "(arXiv 2006.10726)",
            needs=TRAINABLE,
            presets={**VIT_RATES, "tiny-resnet": TENT_CIFAR},
        ),
        _spec(
            "memo",
            "memo:Memo",
            summary="lowers the entropy of the mean prediction over views of each image",
            paper="Zhang et al. 2022, MEMO: Test Time Robustness via Adaptation and Augmentation "
            "(arXiv 2110.09506)",
            needs=TRAINABLE,
            presets={"tiny-resnet": MEMO_CIFAR},
        ),
        _spec(
            "eta",
            "eta:Eta",
            summary="TENT on samples that are reliable and unlike those before",
            kind="stream",
            paper=EATA,
            needs=TRAINABLE,
            presets={**VIT_RATES, "tiny-resnet": ETA_CIFAR},
        ),
        _spec(
            "eata",
            "eata:Eata",
            summary="ETA that keeps the weights which matter on training images",
            kind="stream",
            paper=EATA,
            needs=TRAINABLE,
            presets={**VIT_RATES, "tiny-resnet": EATA_CIFAR},
            labelled_data=SOURCE_IMAGES,
        ),
        _spec(
            "sar",
            "sar:Sar",
            summary="sharpness-aware entropy minimization on reliable samples",
            kind="stream",
            paper="Niu et al. 2023, Towards Stable Test-Time Adaptation in Dynamic Wild World "
            "(arXiv 2302.12400)",
            needs=TRAINABLE,
            presets=VIT_RATES,
        ),
        _spec(
            "deyo",
            "deyo:Deyo",
            summary="TENT on samples whose prediction depends on the object's shape",
            kind="stream",
            paper="Lee et al. 2024, Entropy is not Enough for Test-Time Adaptation "
            "(arXiv 2403.07366)",
            needs=TRAINABLE,
            presets=VIT_RATES,
        ),
    ]


def _by_other_losses() -> list[AdapterSpec]:
    return [
        _spec(
            "cotta",
            "cotta:Cotta",
            summary="learns from an averaged teacher, and restores weights at random",
            kind="stream",
            paper="Wang et al. 2022, Continual Test-Time Domain Adaptation (arXiv 2203.13591)",
            needs=TRAINABLE,
            presets={"tiny-resnet": COTTA_CIFAR},
        ),
        _spec(
            "rotta",
            "rotta:Rotta",
            summary="learns from a class-balanced memory with slowly moving statistics",
            kind="stream",
            paper="Yuan et al. 2023, Robust Test-Time Adaptation in Dynamic Scenarios "
            "(arXiv 2303.13899)",
            needs=BATCH_NORM,
        ),
        _spec(
            "roid",
            "roid:Roid",
            summary="learns from certain and diverse samples, near the trained weights",
            kind="stream",
            paper="Marsden et al. 2024, Universal Test-time Adaptation through Weight Ensembling, "
            "Diversity Weighting, and Prior Correction (arXiv 2306.00650)",
            needs=TRAINABLE,
            presets={"tiny-resnet": ROID_CIFAR},
        ),
    ]


@hookimpl
def ttt_bench_goldens() -> list[GoldenSpec]:
    """Return the numbers of the releases."""
    return [
        GoldenSpec(
            name="classic",
            summary="all methods of ttt-bench-tta on a tiny ResNet, batch by batch",
            code="ttt_bench_tta.goldens.classic:compute",
            methods=(
                "norm",
                "tent",
                "memo",
                "t3a",
                "lame",
                "eta",
                "sar",
                "cotta",
                "rotta",
                "deyo",
                "roid",
            ),
            file="classic.npz",
            arrays=frozenset({"images", "norm/logits", "cotta/logits"}),
            tolerances=TOLERANCES,
        )
    ]
