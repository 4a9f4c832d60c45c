"""The hooks: methods and numbers of the original releases that this package adds to ttt-bench."""

from typing import TYPE_CHECKING, Any

from ttt_bench import AdapterSpec, GoldenSpec, ReferenceSpec, hookimpl
from ttt_bench_clip_tta import presets

if TYPE_CHECKING:
    import click

DUAL_ENCODER = frozenset({"DualEncoder"})
# The methods that train a copy of the image tower.
TOWERS = frozenset({"DualEncoder", "TrainableClassifier"})
LAYER_NORMS = "LayerNorm layers of the image tower"
FEATURES = "features of each class"

# `ttt-bench clip-tta choose-temperature -d cifar10-c-mini:validation`
TINY_CLIP_TEMPERATURE = 1.65

# Differences relative to an output's largest value.
# DPE's steps are nearly signs of gradients, some of them near 0.
TOLERANCES: dict[str, float] = {f"dpe/{case}/logits": 1e-3 for case in ("A", "V", "dtd")}


def _spec(name: str, code: str, **fields: Any) -> AdapterSpec:
    fields = {"needs": DUAL_ENCODER, **fields}
    return AdapterSpec(name=name, code=f"ttt_bench_clip_tta.methods.{code}", **fields)


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return the methods."""
    return [*_controls(), *_by_votes_of_views(), *_by_training(), *_by_memory()]


def _controls() -> list[AdapterSpec]:
    return [
        _spec(
            "view-mean",
            "view_mean:ViewMean",
            summary="a control: the mean of the views' distributions",
        ),
        _spec(
            "view-vote",
            "view_vote:ViewVote",
            summary="a control: the class that most views score highest",
        ),
        _spec(
            "confident-mean",
            "confident_mean:ConfidentMean",
            summary="a control: the mean of the confident views' distributions",
        ),
        _spec(
            "temperature",
            "temperature:Temperature",
            summary="a control: zero-shot scores with a temperature that was chosen",
            paper="Guo et al. 2017, On Calibration of Modern Neural Networks (arXiv 1706.04599)",
            presets={"tiny-clip": {"temperature": TINY_CLIP_TEMPERATURE}},
            labelled_data="the temperature was chosen on labelled images, none of them a test "
            "image",
        ),
    ]


def _by_votes_of_views() -> list[AdapterSpec]:
    return [
        _spec(
            "zero",
            "zero:Zero",
            summary="the confident views vote, each for its best class",
            paper="Farina et al. 2024, Frustratingly Easy Test-Time Adaptation of Vision-Language "
            "Models (arXiv 2405.18330)",
            release="FarinaMatteo/zero, MIT",
        ),
        _spec(
            "mta",
            "mta:MTA",
            summary="classifies the mode of the views' features, views weighted",
            paper="Zanella and Ben Ayed 2024, On the test-time zero-shot generalization of "
            "vision-language models (arXiv 2405.02266)",
            release="MaxZanella/MTA, MIT",
        ),
        _spec(
            "vte",
            "vte:Vte",
            summary="classifies the mean feature of the confident views",
            paper="Döbler et al. 2024, A Lost Opportunity for Vision-Language Models: A "
            "Comparative Study of Online Test-Time Adaptation for Vision-Language Models (arXiv "
            "2405.14977)",
            release="mariodoebler/test-time-adaptation, MIT",
        ),
    ]


def _by_training() -> list[AdapterSpec]:
    return [
        _spec(
            "stata",
            "stata:StatA",
            summary="fits a Gaussian of every class to a batch, held near the class text",
            kind="batch",
            paper="Zanella et al. 2025, Realistic Test-Time Adaptation of Vision-Language Models "
            "(arXiv 2501.03729)",
            release="MaxZanella/StatA, AGPL-3.0",
        ),
        _spec(
            "tps",
            "tps:TPS",
            summary="shifts the text of every class so that confident views agree",
            paper="Sui et al. 2024, Just Shift It: Test-Time Prototype Shifting for Zero-Shot "
            "Generalization with Vision-Language Models (arXiv 2403.12952)",
            trains="a shift of each class text",
            release="elaine-sui/TPS, MIT",
        ),
        _spec(
            "ttl",
            "ttl:TTL",
            summary="learns low-rank changes of the image tower's attention on an image's views",
            paper="Imam et al. 2025, Test-Time Low Rank Adaptation via Confidence Maximization for "
            "Zero-Shot Generalization of Vision-Language Models (arXiv 2407.15913)",
            needs=TOWERS,
            # Its image tower has two blocks.
            presets={"tiny-clip": {"blocks": 2}},
            trains="low-rank changes of the image tower's q and v",
            release="Razaimam45/TTL-Test-Time-Low-Rank-Adaptation, no licence",
        ),
        _spec(
            "watt",
            "watt:Watt",
            summary="trains the image tower with each of several prompts, averages the weights",
            kind="batch",
            paper="Osowiechi et al. 2024, WATT: Weight Average Test-Time Adaptation of CLIP "
            "(arXiv 2406.13875)",
            needs=TOWERS,
            trains=LAYER_NORMS,
            release="Mehrdad-Noori/WATT, no licence",
        ),
        _spec(
            "clipartt",
            "clipartt:CLIPArTT",
            summary="trains the image tower with prompts of each image's three best classes",
            kind="batch",
            paper="Vargas Hakim et al. 2024, CLIPArTT: Adaptation of CLIP to New Domains at Test "
            "Time (arXiv 2405.00754)",
            needs=TOWERS,
            trains=LAYER_NORMS,
            release="dosowiechi/CLIPArTT, no licence",
        ),
        _spec(
            "tent-clip",
            "tent_clip:TentClip",
            summary="lowers the entropy of a batch by the image tower's LayerNorm layers",
            kind="batch",
            paper="Wang et al. 2021, Tent: Fully Test-Time Adaptation by Entropy Minimization "
            "(arXiv 2006.10726)",
            needs=TOWERS,
            trains=LAYER_NORMS,
            release="dosowiechi/CLIPArTT, no licence",
        ),
    ]


def _by_memory() -> list[AdapterSpec]:
    return [
        _spec(
            "tda",
            "tda:TDA",
            summary="raises classes by a cache of confident features, lowers by an uncertain one",
            kind="stream",
            paper="Karmanov et al. 2024, Efficient Test-Time Adaptation of Vision-Language Models "
            "(arXiv 2403.18293)",
            dataset_presets=presets.tda(),
            dataset_presets_note=presets.CHOSEN,
            keeps=FEATURES,
            release="kdiAAA/TDA, MIT",
        ),
        _spec(
            "boostadapter",
            "boostadapter:BoostAdapter",
            summary="TDA whose cache also holds a sample's own confident views",
            kind="stream",
            paper="Zhang et al. 2024, BoostAdapter: Improving Vision-Language Test-Time Adaptation "
            "via Regional Bootstrapping (arXiv 2410.15430)",
            dataset_presets=presets.boostadapter(),
            dataset_presets_note=presets.CHOSEN,
            keeps=FEATURES,
            release="taolinzhang/BoostAdapter, MIT",
        ),
        _spec(
            "dpe",
            "dpe:DPE",
            summary="evolves prototypes of texts and of images, with a step for each sample",
            kind="stream",
            paper="Zhang et al. 2024, Dual Prototype Evolving for Test-Time Generalization of "
            "Vision-Language Models (arXiv 2410.12790)",
            dataset_presets=presets.dpe(),
            dataset_presets_note=presets.CHOSEN,
            trains="shifts of texts and of image prototypes",
            keeps="texts, features of each class",
            release="zhangce01/DPE-CLIP, MIT",
        ),
        _spec(
            "dmn",
            "dmn:DMN",
            summary="adds a classifier of remembered features that are like the sample",
            kind="stream",
            paper="Zhang et al. 2024, Dual Memory Networks: A Versatile Adaptation Approach for "
            "Vision-Language Models (arXiv 2403.17589)",
            keeps=FEATURES,
            release="YBZh/DMN, MIT",
        ),
        _spec(
            "onzeta",
            "onzeta:OnZeta",
            summary="balances the classes of a stream, and learns a vision proxy of each",
            kind="stream",
            paper="Qian and Hu 2024, Online Zero-Shot Classification with CLIP (arXiv 2408.13320)",
            dataset_presets=presets.onzeta(),
            dataset_presets_note=presets.COUNTED,
            trains="a vision proxy of each class",
            keeps="proxies, class balance",
            release="idstcv/OnZeta, Apache-2.0",
        ),
        _spec(
            "ecalp",
            "ecalp:Ecalp",
            summary="spreads labels over a graph of class texts and all images so far",
            kind="stream",
            paper="Li et al. 2025, Efficient and Context-Aware Label Propagation for "
            "Zero-/Few-Shot Training-Free Adaptation of Vision-Language Model (arXiv 2412.18303)",
            known_failures={"check_samples_kept": "its graph holds every sample of the stream"},
            keeps="the feature of every sample",
            release="Yushu-Li/ECALP, MIT",
        ),
    ]


@hookimpl
def ttt_bench_goldens() -> list[GoldenSpec]:
    """Return the numbers of the releases."""
    return [
        GoldenSpec(
            name="clip_features",
            summary="the methods that need features alone, on 60 samples of 32 views",
            code="ttt_bench_clip_tta.goldens.features:compute",
            methods=("zero", "mta", "stata", "tda", "boostadapter", "dpe", "dmn", "onzeta"),
            file="clip_features.npz",
            arrays=frozenset({"input/text_features", "input/views", "input/logit_scale"}),
            tolerances=TOLERANCES,
        ),
        GoldenSpec(
            name="clip_towers",
            summary="the methods that train a prompt or the image tower, on a tiny CLIP",
            code="ttt_bench_clip_tta.goldens.towers:compute",
            methods=("c-tpt", "rlcf", "watt", "clipartt", "tent-clip"),
            file="clip_towers.npz",
            arrays=frozenset({"tokens/ids", "tokens/values", "reward/text_projection"}),
        ),
        GoldenSpec(
            name="more_clip",
            summary="VTE, TPS and ECALP on the samples of clip_features; TTL, R-TPT and DynaPrompt "
            "on a tiny CLIP",
            code="ttt_bench_clip_tta.goldens.more:compute",
            methods=("vte", "tps", "ecalp", "ttl", "r-tpt", "dynaprompt"),
            file="more_clip.npz",
            arrays=frozenset({"ecalp/dimension_weights", "vte/sel01/logits"}),
        ),
    ]


@hookimpl
def ttt_bench_references() -> list[ReferenceSpec]:
    """Return the published numbers of CLIP's methods."""
    return [
        ReferenceSpec(
            name="clip-tta",
            summary="CLIP's test-time methods on ImageNet's variants, second-hand or their own",
            code="ttt_bench_clip_tta.references:publication",
            source="tables of M2TPT and Dota; READMEs of TDA, DMN and WATT",
        )
    ]


@hookimpl
def ttt_bench_commands(cli: "click.Group") -> None:
    """Add `ttt-bench clip-tta choose-temperature`."""
    from ttt_bench_clip_tta.commands import clip_tta

    cli.add_command(clip_tta)
