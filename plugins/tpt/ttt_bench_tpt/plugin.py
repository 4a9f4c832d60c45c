"""The hooks: methods and commands that this package adds to ttt-bench."""

from typing import TYPE_CHECKING

from ttt_bench import AdapterSpec, GoldenSpec, hookimpl

if TYPE_CHECKING:
    import click

TPT = "Shu et al. 2022, Test-Time Prompt Tuning for Zero-Shot Generalization (arXiv 2209.07511)"
COOP = "Zhou et al. 2022, Learning to Prompt for Vision-Language Models (arXiv 2109.01134)"
COCOOP = "Zhou et al. 2022, Conditional Prompt Learning (arXiv 2203.05557)"
SHOTS = "the prompt was learned on labelled training images"


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return TPT, the prompt learners, and TPT from their prompts."""
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
        ),
        AdapterSpec(
            name="coop",
            summary="a prompt learned on a few labelled images per class",
            code="ttt_bench_tpt.methods.coop:CoOp",
            paper=COOP,
            needs=needs,
            presets=coop,
            labelled_data=SHOTS,
        ),
        AdapterSpec(
            name="cocoop",
            summary="a prompt learned on labelled images, shifted by a network of the image",
            code="ttt_bench_tpt.methods.cocoop:CoCoOp",
            paper=COCOOP,
            needs=needs,
            presets=cocoop,
            labelled_data=SHOTS,
        ),
        AdapterSpec(
            name="tpt-coop",
            summary="TPT whose prompt starts from CoOp's",
            code="ttt_bench_tpt.methods.tpt:TPTCoOp",
            paper=TPT,
            needs=needs,
            presets=coop,
            labelled_data=SHOTS,
        ),
        AdapterSpec(
            name="tpt-cocoop",
            summary="TPT whose prompt starts from CoCoOp's for the image",
            code="ttt_bench_tpt.methods.tpt:TPTCoCoOp",
            paper=TPT,
            needs=needs,
            presets=cocoop,
            labelled_data=SHOTS,
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
