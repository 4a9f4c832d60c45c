"""What this distribution adds to ttt-bench."""

from typing import TYPE_CHECKING

from ttt_bench import AdapterSpec, hookimpl

if TYPE_CHECKING:
    import click

TPT = "Shu et al. 2022, Test-Time Prompt Tuning for Zero-Shot Generalization (arXiv 2209.07511)"
COOP = "Zhou et al. 2022, Learning to Prompt for Vision-Language Models (arXiv 2109.01134)"
COCOOP = "Zhou et al. 2022, Conditional Prompt Learning (arXiv 2203.05557)"
SHOTS = "the prompt was learned on labelled training images"


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """TPT, the prompt learners, and TPT from what they learned."""
    needs = frozenset({"DualEncoder"})
    coop = {"tiny-clip": {"checkpoint": "tiny-clip-coop.pt"}}
    cocoop = {"tiny-clip": {"checkpoint": "tiny-clip-cocoop.pt"}}
    return [
        AdapterSpec(
            name="tpt",
            summary="tunes the prompt of each image so that its views agree",
            code="ttt_bench_tpt.adapters:TPT",
            paper=TPT,
            needs=needs,
        ),
        AdapterSpec(
            name="coop",
            summary="a prompt learned on a few labelled images per class",
            code="ttt_bench_tpt.adapters:CoOp",
            paper=COOP,
            needs=needs,
            presets=coop,
            labelled_data=SHOTS,
        ),
        AdapterSpec(
            name="cocoop",
            summary="such a prompt, shifted by a network of the image",
            code="ttt_bench_tpt.adapters:CoCoOp",
            paper=COCOOP,
            needs=needs,
            presets=cocoop,
            labelled_data=SHOTS,
        ),
        AdapterSpec(
            name="tpt-coop",
            summary="TPT from CoOp's prompt",
            code="ttt_bench_tpt.adapters:TPTCoOp",
            paper=TPT,
            needs=needs,
            presets=coop,
            labelled_data=SHOTS,
        ),
        AdapterSpec(
            name="tpt-cocoop",
            summary="TPT from CoCoOp's prompt for the image",
            code="ttt_bench_tpt.adapters:TPTCoCoOp",
            paper=TPT,
            needs=needs,
            presets=cocoop,
            labelled_data=SHOTS,
        ),
    ]


@hookimpl
def ttt_bench_commands(cli: "click.Group") -> None:
    """`ttt-bench tpt train-coop` and `train-cocoop`."""
    from ttt_bench_tpt.commands import tpt

    cli.add_command(tpt)
