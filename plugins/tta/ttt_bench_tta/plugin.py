"""The hooks: methods and numbers of the original releases that this package adds to ttt-bench."""

from typing import Any

from ttt_bench import CLASSIFIER_FAMILY, AdapterSpec, GoldenSpec, hookimpl
from ttt_bench_tta import presets

TRAINABLE = frozenset({"TrainableClassifier"})
BATCH_NORM = frozenset({"BatchNormClassifier"})
EATA = "Niu et al. 2022, Efficient Test-Time Model Adaptation without Forgetting (arXiv 2204.02610)"
SCHNEIDER = (
    "Schneider et al. 2020, Improving robustness against common corruptions by covariate shift "
    "adaptation (arXiv 2006.16971)"
)
PORT = "mariodoebler/test-time-adaptation, MIT"
NORM_LAYERS = "normalization layers"
LEARNED = "weights, optimizer"
WITH_MEAN = "weights, optimizer, mean prediction"
SOURCE_IMAGES = "it sees training images, without their labels, before the test"
LABELLED_IMAGES = "it sees labelled training images before the test"
REPLAYED_IMAGES = "it sees labelled training images before the test and during it"
CLASSIC = ("norm", "tent", "memo", "t3a", "lame", "eta", "sar", "cotta", "rotta", "deyo", "roid")


def _spec(name: str, code: str, **fields: Any) -> AdapterSpec:
    return AdapterSpec(
        name=name, code=f"ttt_bench_tta.methods.{code}", family=CLASSIFIER_FAMILY, **fields
    )


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return the methods."""
    return [
        *_without_training(),
        *_by_entropy(),
        *_by_other_losses(),
        *_with_a_teacher(),
        *_near_the_trained_weights(),
    ]


def _without_training() -> list[AdapterSpec]:
    return [
        _spec(
            "norm",
            "norm:Norm",
            summary="normalizes by the statistics of the test batch",
            kind="batch",
            paper=SCHNEIDER,
            needs=BATCH_NORM,
            release="DequanWang/tent, MIT",
        ),
        _spec(
            "norm-alpha",
            "norm_alpha:NormAlpha",
            summary="mixes the trained statistics with the batch's in fixed shares",
            kind="batch",
            paper=SCHNEIDER,
            needs=BATCH_NORM,
            release=PORT,
        ),
        _spec(
            "norm-ema",
            "norm_ema:NormEma",
            summary="normalizes by statistics that follow the test batches",
            kind="stream",
            paper=SCHNEIDER,
            needs=BATCH_NORM,
            keeps="statistics of BatchNorm",
            release=PORT,
        ),
        _spec(
            "ttaug",
            "ttaug:TTAug",
            summary="averages the logits of augmented views of each image",
            paper="Ashukha et al. 2020, Pitfalls of In-Domain Uncertainty Estimation and "
            "Ensembling in Deep Learning (arXiv 2002.06470)",
            needs=TRAINABLE,
            release=PORT,
        ),
        _spec(
            "t3a",
            "t3a:T3A",
            summary="classifies by the most confident features of every class so far",
            kind="stream",
            paper="Iwasawa and Matsuo 2021, Test-Time Classifier Adjustment Module for "
            "Model-Agnostic Domain Generalization (NeurIPS 2021)",
            needs=TRAINABLE,
            keeps="features of each class",
            release="matsuolab/T3A, MIT",
        ),
        _spec(
            "lame",
            "lame:Lame",
            summary="makes the predictions of a batch agree where features are alike",
            kind="batch",
            paper="Boudiaf et al. 2022, Parameter-free Online Test-time Adaptation "
            "(arXiv 2201.05718)",
            release="fiveai/LAME, CC BY-NC-SA 4.0",
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
            presets={**presets.VIT_RATES, "tiny-resnet": presets.TENT_CIFAR},
            trains=NORM_LAYERS,
            keeps=LEARNED,
            release="DequanWang/tent, MIT",
        ),
        _spec(
            "memo",
            "memo:Memo",
            summary="lowers the entropy of the mean prediction over views of each image",
            paper="Zhang et al. 2022, MEMO: Test Time Robustness via Adaptation and Augmentation "
            "(arXiv 2110.09506)",
            needs=TRAINABLE,
            presets={"tiny-resnet": presets.MEMO_CIFAR},
            trains="all weights",
            release="zhangmarvin/memo, MIT",
        ),
        _spec(
            "eta",
            "eta:Eta",
            summary="TENT on samples that are reliable and unlike those before",
            kind="stream",
            paper=EATA,
            needs=TRAINABLE,
            presets={**presets.VIT_RATES, "tiny-resnet": presets.ETA_CIFAR},
            trains=NORM_LAYERS,
            keeps=WITH_MEAN,
            release="mr-eggplant/EATA, MIT",
        ),
        _spec(
            "eata",
            "eata:Eata",
            summary="ETA that keeps the weights which matter on training images",
            kind="stream",
            paper=EATA,
            needs=TRAINABLE,
            presets={**presets.VIT_RATES, "tiny-resnet": presets.EATA_CIFAR},
            labelled_data=SOURCE_IMAGES,
            trains=NORM_LAYERS,
            keeps=WITH_MEAN,
            release="mr-eggplant/EATA, MIT",
        ),
        _spec(
            "rdumb",
            "rdumb:Rdumb",
            summary="ETA that starts again from the trained weights every 1000 batches",
            kind="stream",
            paper="Press et al. 2023, RDumb: A simple approach that questions our progress in "
            "continual test-time adaptation (arXiv 2306.05401)",
            needs=TRAINABLE,
            presets={**presets.VIT_RATES, "tiny-resnet": presets.RDUMB_CIFAR},
            trains=NORM_LAYERS,
            keeps=WITH_MEAN,
            release="oripress/CCC, MIT",
        ),
    ]


def _by_other_losses() -> list[AdapterSpec]:
    return [
        _spec(
            "sar",
            "sar:Sar",
            summary="sharpness-aware entropy minimization on reliable samples",
            kind="stream",
            paper="Niu et al. 2023, Towards Stable Test-Time Adaptation in Dynamic Wild World "
            "(arXiv 2302.12400)",
            needs=TRAINABLE,
            presets={**presets.VIT_RATES, "tiny-resnet": presets.ADAM_CIFAR},
            trains=NORM_LAYERS,
            keeps="weights, optimizer, mean loss",
            release="mr-eggplant/SAR, BSD-3-Clause",
        ),
        _spec(
            "deyo",
            "deyo:Deyo",
            summary="TENT on samples whose prediction depends on the object's shape",
            kind="stream",
            paper="Lee et al. 2024, Entropy is not Enough for Test-Time Adaptation "
            "(arXiv 2403.07366)",
            needs=TRAINABLE,
            presets={**presets.VIT_RATES, "tiny-resnet": presets.ADAM_CIFAR},
            trains=NORM_LAYERS,
            keeps=LEARNED,
            release="Jhyun17/DeYO, MIT",
        ),
        _spec(
            "rpl",
            "rpl:Rpl",
            summary="TENT with robust pseudo-labels",
            kind="stream",
            paper="Rusak et al. 2022, If your data distribution shifts, use self-learning "
            "(arXiv 2104.12928)",
            needs=TRAINABLE,
            presets={"tiny-resnet": presets.ADAM_CIFAR},
            trains=NORM_LAYERS,
            keeps=LEARNED,
            release="oripress/CCC, MIT",
        ),
    ]


def _with_a_teacher() -> list[AdapterSpec]:
    return [
        _spec(
            "cotta",
            "cotta:Cotta",
            summary="learns from an averaged teacher, and restores weights at random",
            kind="stream",
            paper="Wang et al. 2022, Continual Test-Time Domain Adaptation (arXiv 2203.13591)",
            needs=TRAINABLE,
            presets={"tiny-resnet": presets.COTTA_CIFAR},
            trains="all weights",
            keeps="weights, optimizer, teacher",
            release="qinenergy/cotta, MIT",
        ),
        _spec(
            "rotta",
            "rotta:Rotta",
            summary="learns from a class-balanced memory with slowly moving statistics",
            kind="stream",
            paper="Yuan et al. 2023, Robust Test-Time Adaptation in Dynamic Scenarios "
            "(arXiv 2303.13899)",
            needs=BATCH_NORM,
            trains="BatchNorm layers",
            keeps="weights, optimizer, teacher, 64 samples",
            release="BIT-DA/RoTTA, MIT",
        ),
        _spec(
            "rmt",
            "rmt:Rmt",
            summary="a mean teacher, contrast with class means, and replayed training images",
            kind="stream",
            paper="Döbler et al. 2023, Robust Mean Teacher for Continual and Gradual Test-Time "
            "Adaptation (arXiv 2211.13081)",
            needs=TRAINABLE,
            presets={"tiny-resnet": presets.RMT_CIFAR},
            labelled_data=REPLAYED_IMAGES,
            trains="all weights, a projector",
            keeps="weights, optimizer, teacher",
            release=PORT,
        ),
        _spec(
            "adacontrast",
            "adacontrast:AdaContrast",
            summary="contrast between views, with pseudo-labels that neighbours correct",
            kind="stream",
            paper="Chen et al. 2022, Contrastive Test-Time Adaptation (arXiv 2204.10377)",
            needs=TRAINABLE,
            trains="all weights",
            keeps="weights, optimizer, teacher, features of 16384 samples",
            release="DianCh/AdaContrast, no licence",
        ),
    ]


def _near_the_trained_weights() -> list[AdapterSpec]:
    return [
        _spec(
            "roid",
            "roid:Roid",
            summary="learns from certain and diverse samples, near the trained weights",
            kind="stream",
            paper="Marsden et al. 2024, Universal Test-time Adaptation through Weight Ensembling, "
            "Diversity Weighting, and Prior Correction (arXiv 2306.00650)",
            needs=TRAINABLE,
            presets={"tiny-resnet": presets.ROID_CIFAR},
            trains=NORM_LAYERS,
            keeps=WITH_MEAN,
            release=PORT,
        ),
        _spec(
            "cmf",
            "cmf:Cmf",
            summary="ROID whose weights a Kalman filter draws towards the trained ones",
            kind="stream",
            paper="Lee and Chang 2024, Continual Momentum Filtering on Parameter Space for Online "
            "Test-time Adaptation (ICLR 2024)",
            needs=TRAINABLE,
            presets={"tiny-resnet": presets.ADAM_CIFAR},
            trains=NORM_LAYERS,
            keeps="weights, optimizer, mean prediction, filtered weights",
            release=PORT,
        ),
        _spec(
            "santa",
            "santa:Santa",
            summary="stays near the trained model, and aligns features with class means",
            kind="stream",
            paper="Chakrabarty et al. 2023, SANTA: Source Anchoring Network and Target Alignment "
            "for Continual Test Time Adaptation (TMLR 2023)",
            needs=TRAINABLE,
            presets={"tiny-resnet": presets.ADAM_CIFAR},
            labelled_data=LABELLED_IMAGES,
            trains="normalization layers, a projector",
            keeps=LEARNED,
            release=PORT,
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
            methods=CLASSIC,
            file="classic.npz",
            arrays=frozenset({"images", "norm/logits", "cotta/logits"}),
            tolerances=presets.TOLERANCES,
        ),
        GoldenSpec(
            name="more_classic",
            summary="the further methods of ttt-bench-tta, on the inputs of classic",
            code="ttt_bench_tta.goldens.more:compute",
            methods=(
                "norm-alpha",
                "norm-ema",
                "ttaug",
                "rdumb",
                "rpl",
                "rmt",
                "adacontrast",
                "cmf",
                "santa",
            ),
            file="more_classic.npz",
            arrays=frozenset({"inputs_from", "norm_ema/logits", "rpl/logits"}),
        ),
    ]
