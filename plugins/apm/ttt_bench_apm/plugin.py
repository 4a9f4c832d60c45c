"""The method and the commands that this plugin adds to ttt-bench."""

from typing import TYPE_CHECKING

from ttt_bench import AdapterSpec, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return the spec of APM's test-time training."""
    return [
        AdapterSpec(
            name="apm",
            summary="a fresh perception network per image, trained on one feature of the backbone",
            code="ttt_bench_apm.methods.apm:APM",
            kind="sample",
            paper="Modi and Rawat 2024, Asynchronous Perception Machine (arXiv 2410.20535)",
            presets={
                # The backbone's own grid and small layers, everything else as released; chosen on
                # held-out training images by tools/choose_apm_preset.py.
                "tiny-clip": {"image_size": 32, "grid": 8, "widths": (128, 128, 64)},
            },
        )
    ]


@hookimpl
def ttt_bench_commands(cli: "click.Group") -> None:
    """Add `ttt-bench apm`."""
    from ttt_bench_apm.commands import apm

    cli.add_command(apm)
