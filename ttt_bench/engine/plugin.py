"""The built-in executor, registered like any other plugin's."""

from ttt_bench.hookspecs import hookimpl
from ttt_bench.specs import ExecutorSpec


@hookimpl
def ttt_bench_executors() -> list[ExecutorSpec]:
    """Chunks one after another in the process of the command."""
    return [
        ExecutorSpec(
            name="local",
            summary="one chunk after another, in this process",
            code="ttt_bench.engine.executor:LocalExecutor",
        )
    ]
