"""The plugin contract: everything a distribution can add to ttt-bench, on one page.

A plugin is a module that implements some of these hooks and is named by an entry point:

    [project.entry-points.ttt_bench]
    my-method = "my_package.plugin"

Built-in methods, datasets, backbones and metrics register through the same hooks. A plugin that
fails to import, or raises in a hook, is listed as broken and stops nothing else.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from ttt_bench.engine.run import Run
    from ttt_bench.records import Records
    from ttt_bench.specs import (
        AdapterSpec,
        BackboneSpec,
        DatasetSpec,
        ExecutorSpec,
        MetricSpec,
        ReferenceSpec,
    )

PROJECT = "ttt_bench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ttt_bench_adapters() -> "Iterable[AdapterSpec]":  # pyright: ignore[reportReturnType]
    """Methods.

    Example:
        @hookimpl
        def ttt_bench_adapters():
            return [AdapterSpec(name="mine", summary="My method", code="my_package.mine:Mine")]
    """


@hookspec
def ttt_bench_datasets() -> "Iterable[DatasetSpec]":  # pyright: ignore[reportReturnType]
    """Datasets.

    Example:
        @hookimpl
        def ttt_bench_datasets():
            return [DatasetSpec(name="birds", summary="200 birds", code="my_package.birds:Birds",
                                backbones={"clip": "open_clip:ViT-B-16/openai"},
                                source="my lab", licence="CC BY 4.0")]
    """


@hookspec
def ttt_bench_backbones() -> "Iterable[BackboneSpec]":  # pyright: ignore[reportReturnType]
    """Backbones.

    Example:
        @hookimpl
        def ttt_bench_backbones():
            return [BackboneSpec(name="lab-clip", summary="Our CLIP", code="my_package.clip:Clip",
                                 gives=frozenset({"image_features", "text_tower"}))]
    """


@hookspec
def ttt_bench_metrics() -> "Iterable[MetricSpec]":  # pyright: ignore[reportReturnType]
    """Metrics, computed from saved records alone.

    Example:
        @hookimpl
        def ttt_bench_metrics():
            return [MetricSpec(name="error", summary="100 - top-1", code="my_package.error:error")]
    """


@hookspec
def ttt_bench_references() -> "Iterable[ReferenceSpec]":  # pyright: ignore[reportReturnType]
    """Published tables to set beside measured rows.

    Example:
        @hookimpl
        def ttt_bench_references():
            return [ReferenceSpec(name="my-paper", summary="Table 1", code="my_package.paper:rows",
                                  source="CVPR 2027")]
    """


@hookspec
def ttt_bench_executors() -> "Iterable[ExecutorSpec]":  # pyright: ignore[reportReturnType]
    """Ways to work off the chunks of a run.

    Example:
        @hookimpl
        def ttt_bench_executors():
            return [ExecutorSpec(name="slurm", summary="SLURM", code="my_package.slurm:Slurm")]
    """


@hookspec
def ttt_bench_commands(cli: "click.Group") -> None:
    """Commands of the plugin's own.

    Example:
        @hookimpl
        def ttt_bench_commands(cli):
            @cli.command()
            def hello():
                click.echo("hello")
    """


@hookspec
def ttt_bench_run_started(run: "Run") -> None:
    """A run is about to work off its missing chunks.

    Example:
        @hookimpl
        def ttt_bench_run_started(run):
            wandb.init(config=run.card)
    """


@hookspec
def ttt_bench_chunk_finished(run: "Run", records: "Records") -> None:
    """A chunk's records have been saved.

    Example:
        @hookimpl
        def ttt_bench_chunk_finished(run, records):
            wandb.log({"samples": len(records)})
    """


@hookspec
def ttt_bench_run_finished(run: "Run", summary: dict[str, Any]) -> None:
    """Every chunk is there and the summary is written.

    Example:
        @hookimpl
        def ttt_bench_run_finished(run, summary):
            wandb.log({"top1": summary["top1"]})
    """
