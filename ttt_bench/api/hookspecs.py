"""The plugin contract on one page: the hooks that add to ttt-bench, and those that observe it.

A plugin is a module that implements some of these hooks. An entry point names it:

    [project.entry-points.ttt_bench]
    my-method = "my_package.plugin"

Everything a plugin needs is imported from `ttt_bench` itself. Built-in methods, datasets, backbones
and metrics register through the same hooks. A plugin that fails to import, or raises in a hook that
adds something, is listed as broken and stops nothing else. `ttt_bench.registered` registers specs
and hooks within one process, for tests and notebooks.

The examples need these imports, and a test runs each of them:

    import json
    import click
    from ttt_bench import AdapterSpec, hookimpl  # and the other specs
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from ttt_bench.api.events import Run
    from ttt_bench.api.records import Records
    from ttt_bench.api.specs import (
        AdapterSpec,
        BackboneSpec,
        DatasetSpec,
        ExecutorSpec,
        GoldenSpec,
        MetricSpec,
        ReferenceSpec,
        TrackerSpec,
    )

PROJECT = "ttt_bench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# --------------------------------------------------------------------------------------------------
# What a plugin adds
#
# Each hook is called once per process, when the plugins are loaded: in the command's own process
# and again in every worker process. It returns specs and imports no torch. The options of
# `hookimpl` (tryfirst, trylast, wrapper) are refused here, since the order of plugins is that of
# their names.
# --------------------------------------------------------------------------------------------------


@hookspec
def ttt_bench_adapters() -> "Iterable[AdapterSpec]":  # pyright: ignore[reportReturnType]
    """Return methods.

    Example:
        @hookimpl
        def ttt_bench_adapters():
            return [AdapterSpec(name="mine", summary="My method", code="my_package.mine:Mine")]
    """


@hookspec
def ttt_bench_datasets() -> "Iterable[DatasetSpec]":  # pyright: ignore[reportReturnType]
    """Return datasets.

    Example:
        @hookimpl
        def ttt_bench_datasets():
            return [DatasetSpec(name="birds", summary="200 birds", code="my_package.birds:Birds",
                                source="my lab", licence="CC BY 4.0")]
    """


@hookspec
def ttt_bench_backbones() -> "Iterable[BackboneSpec]":  # pyright: ignore[reportReturnType]
    """Return backbones.

    Example:
        @hookimpl
        def ttt_bench_backbones():
            return [BackboneSpec(name="lab-clip", summary="Our CLIP", code="my_package.clip:Clip",
                                 gives=frozenset({"DualEncoder"}))]
    """


@hookspec
def ttt_bench_metrics() -> "Iterable[MetricSpec]":  # pyright: ignore[reportReturnType]
    """Return metrics, which are computed from saved records alone.

    Example:
        @hookimpl
        def ttt_bench_metrics():
            return [MetricSpec(name="error", summary="100 - top-1", code="my_package.error:error")]
    """


@hookspec
def ttt_bench_references() -> "Iterable[ReferenceSpec]":  # pyright: ignore[reportReturnType]
    """Return published tables, which `compare --reference` sets beside measured rows.

    Example:
        @hookimpl
        def ttt_bench_references():
            return [ReferenceSpec(name="my-paper", summary="Table 1", code="my_package.paper:table",
                                  source="CVPR 2027")]
    """


@hookspec
def ttt_bench_executors() -> "Iterable[ExecutorSpec]":  # pyright: ignore[reportReturnType]
    """Return ways to compute the chunks of a run.

    Example:
        @hookimpl
        def ttt_bench_executors():
            return [ExecutorSpec(name="slurm", summary="SLURM jobs", code="my_package.slurm:Slurm",
                                 argument="[PARTITION]")]
    """


@hookspec
def ttt_bench_trackers() -> "Iterable[TrackerSpec]":  # pyright: ignore[reportReturnType]
    """Return trackers, which `run --track NAME` lets follow the runs of a command.

    Example:
        @hookimpl
        def ttt_bench_trackers():
            return [TrackerSpec(name="lab-book", summary="our lab's book of runs",
                                code="my_package.lab_book:LabBook")]
    """


@hookspec
def ttt_bench_goldens() -> "Iterable[GoldenSpec]":  # pyright: ignore[reportReturnType]
    """Return numbers of original releases, which `doctor --full` compares with this machine's.

    Example:
        @hookimpl
        def ttt_bench_goldens():
            return [GoldenSpec(name="mine", summary="20 steps of the release", methods=("mine",),
                               code="my_package.goldens.mine:compute", file="mine.npz",
                               arrays=frozenset({"mine_losses"}))]
    """


@hookspec
def ttt_bench_commands(cli: "click.Group") -> None:
    """Add commands of the plugin's own to the command line.

    Called at most once per command, in its own process, when a command is looked up that is not
    built in, or for `ttt-bench --help`.

    Example:
        @hookimpl
        def ttt_bench_commands(cli):
            @cli.command()
            def hello():
                click.echo("hello")
    """


# --------------------------------------------------------------------------------------------------
# What a plugin is told
#
# These hooks are called in the command's own process, never in a worker. Each plugin gets copies,
# and every field of `run` and `summary` is a plain JSON value. A hook that raises is named in one
# line on standard error, the first time that it does; the run goes on, and the plugin's methods
# stay available. A `UserError` stops the run. A plugin with these hooks is told of every run; a
# `Tracker` is told of the runs of a command that names it (`--track`).
# --------------------------------------------------------------------------------------------------


@hookspec
def ttt_bench_run_started(run: "Run") -> None:
    """Learn that a run begins: once for each run, before its first chunk.

    Earlier commands saved `run.finished` of its `run.n` samples; where both are equal, nothing is
    left to do.

    Example:
        @hookimpl
        def ttt_bench_run_started(run):
            if run.finished < run.n:
                tracker.start(name=run.path, config=json.dumps(run.card))
    """


@hookspec
def ttt_bench_chunk_finished(run: "Run", records: "Records") -> None:
    """Learn that a chunk's records have been saved: once for each chunk that was computed.

    Chunks that earlier commands saved are not repeated, and the order is that of completion.

    Example:
        @hookimpl
        def ttt_bench_chunk_finished(run, records):
            tracker.log(run.path, samples=len(records), accuracy=float(records.correct.mean()))
    """


@hookspec
def ttt_bench_run_finished(run: "Run", summary: dict[str, Any]) -> None:
    """Learn that every chunk of a run is saved and its summary is written: once for each run.

    `run.finished` is the number at the start, as in `ttt_bench_run_started`.

    Example:
        @hookimpl
        def ttt_bench_run_finished(run, summary):
            if run.finished < run.n:
                tracker.finish(run.path, top1=summary["top1"], summary=json.dumps(summary))
    """
