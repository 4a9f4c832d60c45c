"""The method and the commands that this plugin adds to ttt-bench."""

from typing import TYPE_CHECKING

from ttt_bench import AdapterSpec, GoldenSpec, hookimpl

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
                # The backbone's own grid, small layers and a higher rate, everything else as
                # released; chosen on held-out training images by tools/choose_apm_preset.py.
                "tiny-clip": {"image_size": 32, "grid": 8, "widths": (64, 64, 32), "lr": 1e-3},
            },
            trains="a new network",
            release="rajatmodi62/apm, Apache-2.0",
        )
    ]


@hookimpl
def ttt_bench_goldens() -> list[GoldenSpec]:
    """Return the release's numbers of test-time training and of the self-supervised network."""
    return [
        GoldenSpec(
            name="apm_ttt",
            summary="20 steps of APM's test-time training, two sizes",
            code="ttt_bench_apm.goldens.apm_ttt:compute",
            methods=("apm",),
            file="apm_ttt.npz",
            arrays=frozenset({"param_order", "pooled", "losses", "grid_sample"}),
            # A unit of this case is within rounding of zero, and whether it is active, and so gets
            # Adam's full step, differs between CPUs: 2.6e-5 and 4.2e-4 were seen. The golden itself
            # is 5.0e-4 from the same network in float64.
            tolerances={"full/grid_sample": 1e-3},
        ),
        GoldenSpec(
            name="apm_ssl",
            summary="the self-supervised APM: answers, interpolation, three steps of training",
            code="ttt_bench_apm.goldens.apm_ssl:compute",
            file="apm_ssl.npz",
            arrays=frozenset({"param_order", "interpolated_features", "grid_rows"}),
        ),
    ]


@hookimpl
def ttt_bench_commands(cli: "click.Group") -> None:
    """Add `ttt-bench apm`."""
    from ttt_bench_apm.commands import apm

    cli.add_command(apm)
