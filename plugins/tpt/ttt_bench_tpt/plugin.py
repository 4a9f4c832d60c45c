"""The hooks: methods and commands that this package adds to ttt-bench."""

from typing import TYPE_CHECKING

from ttt_bench import AdapterSpec, GoldenSpec, hookimpl

if TYPE_CHECKING:
    import click

TPT = "Shu et al. 2022, Test-Time Prompt Tuning for Zero-Shot Generalization (arXiv 2209.07511)"
COOP = "Zhou et al. 2022, Learning to Prompt for Vision-Language Models (arXiv 2109.01134)"
COCOOP = "Zhou et al. 2022, Conditional Prompt Learning (arXiv 2203.05557)"
C_TPT = (
    "Yoon et al. 2024, C-TPT: Calibrated Test-Time Prompt Tuning for Vision-Language Models via "
    "Text Feature Dispersion (arXiv 2403.14119)"
)
RLCF = (
    "Zhao et al. 2024, Test-Time Adaptation with CLIP Reward for Zero-Shot Generalization in "
    "Vision-Language Models (arXiv 2305.18010)"
)
R_TPT = (
    "Sheng et al. 2025, R-TPT: Improving Adversarial Robustness of Vision-Language Models through "
    "Test-Time Prompt Tuning (arXiv 2504.11195)"
)
DYNAPROMPT = "Xiao et al. 2025, DynaPrompt: Dynamic Test-Time Prompt Tuning (arXiv 2501.16404)"
BY_THE_AUTHORS = "chosen per test set by the authors"
SHIFTED = ("imagenet-a", "imagenet-v2", "imagenet-r", "imagenet-sketch")
FINE_GRAINED = (
    "flowers102",
    "dtd",
    "oxford-pets",
    "stanford-cars",
    "ucf101",
    "caltech101",
    "food101",
    "sun397",
    "fgvc-aircraft",
    "eurosat",
)
# The embeddings of tiny-clip are larger than CLIP's, and the released rate of 5e-3 changes 0.8 % of
# predictions. The smallest rate of six whose share of changed predictions is surely above 2 %: the
# 95 % interval on 640 images of cifar10-c-mini:validation is. Methods with a loss of its kind,
# an entropy of confident views, take the same rate.
TINY_CLIP = {"lr": 0.05}
CONTEXT = "context tokens"
TPT_RELEASE, COOP_RELEASE = "azshue/TPT, MIT", "KaiyangZhou/CoOp, MIT"
SHOTS = "the prompt was learned on labelled training images"


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return TPT and its kin, the prompt learners, and TPT from their prompts."""
    needs = frozenset({"DualEncoder"})
    coop = {"tiny-clip": {"checkpoint": "tiny-clip-coop.pt"}}
    cocoop = {"tiny-clip": {"checkpoint": "tiny-clip-cocoop.pt"}}
    return [
        AdapterSpec(
            name="tpt",
            summary="tunes the prompt of each image so that its confident views agree",
            code="ttt_bench_tpt.methods.tpt:TPT",
            paper=TPT,
            needs=needs,
            presets={"tiny-clip": TINY_CLIP},
            trains=CONTEXT,
            release=TPT_RELEASE,
        ),
        AdapterSpec(
            name="c-tpt",
            summary="TPT that also spreads the class text features, for better calibration",
            code="ttt_bench_tpt.methods.c_tpt:CTPT",
            paper=C_TPT,
            needs=needs,
            presets={"tiny-clip": TINY_CLIP},
            dataset_presets={name: {"dispersion": 20.0} for name in SHIFTED},
            dataset_presets_note=BY_THE_AUTHORS,
            trains=CONTEXT,
            release="hee-suk-yoon/C-TPT, MIT",
        ),
        AdapterSpec(
            name="r-tpt",
            summary="makes confident views certain by the prompt, weights views by neighbours",
            code="ttt_bench_tpt.methods.r_tpt:RTPT",
            paper=R_TPT,
            needs=needs,
            presets={"tiny-clip": TINY_CLIP},
            trains=CONTEXT,
            release="TomSheng21/R-TPT, no licence",
        ),
        AdapterSpec(
            name="dynaprompt",
            summary="tunes the prompts of earlier images that suit an image, or begins a new one",
            code="ttt_bench_tpt.methods.dynaprompt:DynaPrompt",
            kind="stream",
            paper=DYNAPROMPT,
            needs=needs,
            presets={"tiny-clip": TINY_CLIP},
            trains="context tokens of several prompts",
            keeps="12 prompts",
            release="zzzx1224/DynaPrompt, no licence",
        ),
        AdapterSpec(
            name="rlcf",
            summary="tunes the prompt, or the image tower, by the reward of a second CLIP",
            code="ttt_bench_tpt.methods.rlcf:RLCF",
            paper=RLCF,
            needs=needs | {"TrainableClassifier"},
            # No other dual encoder is embedded.
            presets={"tiny-clip": {"reward": ""}},
            dataset_presets={name: {"steps": 5} for name in FINE_GRAINED},
            dataset_presets_note=BY_THE_AUTHORS,
            trains="context tokens, or the image tower",
            release="mzhaoshuai/RLCF, Apache-2.0",
        ),
        AdapterSpec(
            name="coop",
            summary="a prompt learned on a few labelled images per class",
            code="ttt_bench_tpt.methods.coop:CoOp",
            paper=COOP,
            needs=needs,
            presets=coop,
            labelled_data=SHOTS,
            release=COOP_RELEASE,
        ),
        AdapterSpec(
            name="cocoop",
            summary="a prompt learned on labelled images, shifted by a network of the image",
            code="ttt_bench_tpt.methods.cocoop:CoCoOp",
            paper=COCOOP,
            needs=needs,
            presets=cocoop,
            labelled_data=SHOTS,
            release=COOP_RELEASE,
        ),
        AdapterSpec(
            name="tpt-coop",
            summary="TPT whose prompt starts from CoOp's",
            code="ttt_bench_tpt.methods.tpt:TPTCoOp",
            paper=TPT,
            needs=needs,
            presets={"tiny-clip": coop["tiny-clip"] | TINY_CLIP},
            labelled_data=SHOTS,
            trains=CONTEXT,
            release=TPT_RELEASE,
        ),
        AdapterSpec(
            name="tpt-cocoop",
            summary="TPT whose prompt starts from CoCoOp's for the image",
            code="ttt_bench_tpt.methods.tpt:TPTCoCoOp",
            paper=TPT,
            needs=needs,
            presets={"tiny-clip": cocoop["tiny-clip"] | TINY_CLIP},
            labelled_data=SHOTS,
            trains=CONTEXT,
            release=TPT_RELEASE,
        ),
    ]


@hookimpl
def ttt_bench_goldens() -> list[GoldenSpec]:
    """Return the release's numbers of TPT and CoCoOp."""
    return [
        GoldenSpec(
            name="tpt",
            summary="TPT at 1, 2 and 4 steps, CoCoOp, and TPT from CoCoOp on a tiny CLIP",
            code="ttt_bench_tpt.goldens.tpt:compute",
            methods=("tpt", "cocoop", "tpt-cocoop"),
            file="tpt.npz",
            arrays=frozenset({"views", "class_names", "clip/text_projection"}),
        )
    ]


@hookimpl
def ttt_bench_commands(cli: "click.Group") -> None:
    """Add `ttt-bench tpt train-coop` and `train-cocoop`."""
    from ttt_bench_tpt.commands import tpt

    cli.add_command(tpt)
