"""Whether the installed plugins are sound: they import, and so does the code of their specs."""

from dataclasses import dataclass
from typing import Any

from ttt_bench.api.errors import UserError, described
from ttt_bench.api.specs import GoldenSpec, Spec
from ttt_bench.registry import Registry


@dataclass(frozen=True)
class PluginState:
    """A plugin and what is wrong with it.

    Attributes:
        name: its name.
        distribution: the distribution that it comes with.
        version: the version of the distribution.
        specs: how many specs it brings.
        problems: a line for each thing that is wrong.
    """

    name: str
    distribution: str
    version: str
    specs: int
    problems: list[str]


def plugin_states(plugins: Registry) -> list[PluginState]:
    """Import the code of every spec, and return the state of every plugin."""
    states = []
    for info in plugins.plugins:
        brought = [
            item.spec
            for catalog in plugins.catalogs.values()
            for item in catalog.values()
            if item.plugin is info
        ]
        problems = [info.error] if info.error else []
        problems += [problem for spec in brought if (problem := _problem(spec))]
        states.append(
            PluginState(info.name, info.distribution, info.version, len(brought), problems)
        )
    return states


def _problem(spec: Spec) -> str:
    """Return what is wrong with a spec, "" for nothing."""
    try:
        code: Any = spec.load()
        if isinstance(spec, GoldenSpec) and not spec.path.is_file():
            return f"{spec.name}: there is no file {spec.path}"
    except UserError as error:
        return str(error)
    # A module may raise anything when it is imported, SystemExit included.
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"{spec.name}: cannot load {spec.code} ({described(error)})"
    return "" if callable(code) else f"{spec.name}: {spec.code} is neither a class nor a function"
