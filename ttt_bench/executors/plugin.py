"""The built-in executors, registered like any other plugin's."""

from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.api.specs import ExecutorSpec


@hookimpl
def ttt_bench_executors() -> list[ExecutorSpec]:
    """Return the executors for this machine and for a Ray cluster."""
    return [
        ExecutorSpec(
            name="local",
            summary="in this process, or in --workers processes of this machine",
            code="ttt_bench.executors.local:LocalExecutor",
        ),
        ExecutorSpec(
            name="ray",
            argument="[HOST:PORT]",
            summary="on the Ray cluster at HOST:PORT, or on this machine as one",
            code="ttt_bench.executors.ray:RayExecutor",
        ),
    ]
