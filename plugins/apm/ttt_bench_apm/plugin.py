"""What this distribution adds to ttt-bench."""

from typing import TYPE_CHECKING

from ttt_bench import AdapterSpec, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """APM's test-time training."""
    return [
        AdapterSpec(
            name="apm",
            summary="a fresh perception network per image, fitted to one teacher feature",
            code="ttt_bench_apm.methods.apm:APM",
            paper="Modi and Rawat 2024, Asynchronous Perception Machine (arXiv 2410.20535)",
            presets={
                # A tiny teacher's own grid and layers to match, everything else as released;
                # chosen on held-out training images by tools/choose_apm_preset.py.
                "tiny-clip": {"image_size": 32, "grid": 8, "widths": (128, 128, 64)},
            },
        )
    ]


@hookimpl
def ttt_bench_commands(cli: "click.Group") -> None:
    """`ttt-bench apm islands`, `train`, `features` and the others."""
    from ttt_bench_apm.commands import apm

    cli.add_command(apm)
