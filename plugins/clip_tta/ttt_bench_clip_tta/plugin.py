"""The hooks: methods and numbers of the original releases that this package adds to ttt-bench."""

from ttt_bench import AdapterSpec, hookimpl


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return the methods."""
    return [*_controls(), *_by_votes_of_views(), *_by_training(), *_by_memory()]


def _controls() -> list[AdapterSpec]:
    return []


def _by_votes_of_views() -> list[AdapterSpec]:
    return []


def _by_training() -> list[AdapterSpec]:
    return []


def _by_memory() -> list[AdapterSpec]:
    return []
