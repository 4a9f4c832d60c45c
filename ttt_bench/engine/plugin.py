"""The built-in executors, registered like any other plugin's."""

from ttt_bench.hookspecs import hookimpl
from ttt_bench.specs import ExecutorSpec


@hookimpl
def ttt_bench_executors() -> list[ExecutorSpec]:
    """On this machine, and on a cluster."""
    return [
        ExecutorSpec(
            name="local",
            summary="in this process, or in --workers processes of this machine",
            code="ttt_bench.engine.executor:LocalExecutor",
        ),
        ExecutorSpec(
            name="ray",
            summary="on a Ray cluster, or on this machine as one",
            code="ttt_bench.engine.on_ray:RayExecutor",
        ),
    ]
