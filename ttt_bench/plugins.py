"""Finding plugins, and keeping a broken one from breaking anything else."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from typing import Any, Generic, TypeVar

import pluggy

from ttt_bench import hookspecs
from ttt_bench.errors import UserError, unknown
from ttt_bench.specs import (
    AdapterSpec,
    BackboneSpec,
    DatasetSpec,
    ExecutorSpec,
    MetricSpec,
    ReferenceSpec,
    Spec,
)

ENTRY_POINT_GROUP = "ttt_bench"
BUILT_IN = ("baselines", "backbones", "datasets", "engine", "metrics", "references")

SpecT = TypeVar("SpecT", bound=Spec)


@dataclass
class PluginInfo:
    """One plugin as `ttt-bench list plugins` shows it; `error` is empty when it works."""

    name: str
    distribution: str
    version: str
    error: str = ""


@dataclass(frozen=True)
class Registered(Generic[SpecT]):
    """A spec and the plugin that brought it."""

    spec: SpecT
    plugin: PluginInfo


class Shelf(Mapping[str, Registered[SpecT]], Generic[SpecT]):
    """Everything of one kind, by name."""

    def __init__(self, what: str, spec_type: type[SpecT]) -> None:
        self.what = what
        self.spec_type = spec_type
        self._items: dict[str, Registered[SpecT]] = {}

    def __getitem__(self, name: str) -> Registered[SpecT]:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def check(self, specs: Iterable[SpecT]) -> list[SpecT]:
        """The specs as a list.

        Raises:
            TypeError: one is not of this shelf's kind.
            ValueError: a name is taken already.
        """
        specs = list(specs)
        for spec in specs:
            if not isinstance(spec, self.spec_type):
                raise TypeError(f"{spec!r} is not a {self.spec_type.__name__}")
            if spec.name in self:
                owner = self[spec.name].plugin.name
                raise ValueError(f"the {self.what} name {spec.name!r} is taken by plugin {owner!r}")
        return specs

    def add(self, specs: list[SpecT], plugin: PluginInfo) -> None:
        """Put checked specs on the shelf."""
        self._items.update({spec.name: Registered(spec, plugin) for spec in specs})

    def find(self, name: str) -> Registered[SpecT]:
        """What is registered under the part of `name` before the first colon.

        Raises:
            UserError: nothing is, or an argument after the colon is missing or too much.
        """
        base, colon, argument = name.partition(":")
        if base not in self:
            raise unknown(self.what, name, self, hint=f"see `ttt-bench list {self.what}s`")
        wanted = getattr(self[base].spec, "argument", "")
        if wanted and not argument and not wanted.startswith("["):
            raise UserError(f"{self.what} {base!r} needs an argument: write {base}:{wanted}")
        if colon and not wanted:
            raise UserError(f"{self.what} {base!r} takes no argument; write {base}")
        return self[base]


@dataclass
class Registry:
    """All plugins and what they brought."""

    manager: pluggy.PluginManager
    plugins: list[PluginInfo] = field(default_factory=list)
    adapters: Shelf[AdapterSpec] = field(default_factory=lambda: Shelf("method", AdapterSpec))
    datasets: Shelf[DatasetSpec] = field(default_factory=lambda: Shelf("dataset", DatasetSpec))
    backbones: Shelf[BackboneSpec] = field(default_factory=lambda: Shelf("backbone", BackboneSpec))
    metrics: Shelf[MetricSpec] = field(default_factory=lambda: Shelf("metric", MetricSpec))
    references: Shelf[ReferenceSpec] = field(
        default_factory=lambda: Shelf("reference", ReferenceSpec)
    )
    executors: Shelf[ExecutorSpec] = field(default_factory=lambda: Shelf("executor", ExecutorSpec))

    def add(self, info: PluginInfo, load: Callable[[], Any]) -> None:
        """Load one plugin and take what it brings, all of it or, if anything is wrong, nothing."""
        self.plugins.append(info)
        try:
            module = load()
            self.manager.register(module, name=info.name)
            self.manager.check_pending()
            brought = []
            for hook in ("adapters", "datasets", "backbones", "metrics", "references", "executors"):
                implementation = getattr(module, f"ttt_bench_{hook}", None)
                if implementation is not None:
                    shelf = getattr(self, hook)
                    brought.append((shelf, shelf.check(implementation())))
        # A plugin may raise anything, SystemExit included; only Ctrl-C is the user's.
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            reason = str(error).strip().splitlines() or [""]
            info.error = f"{type(error).__name__}: {reason[0]}"
            if self.manager.has_plugin(info.name):
                self.manager.unregister(name=info.name)
            return
        for shelf, specs in brought:
            shelf.add(specs, info)

    def call(self, hook: str, **arguments: Any) -> None:
        """Call a hook in every plugin that has it; one that raises is broken and stops no other.

        Raises:
            UserError: a plugin refuses something the user asked for.
        """
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            try:
                implementation.function(*(arguments[name] for name in implementation.argnames))
            except UserError:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {error} (in {hook})"
                print(f"plugin {implementation.plugin_name} is broken: {reason}", file=sys.stderr)
                for plugin in self.plugins:
                    if plugin.name == implementation.plugin_name:
                        plugin.error = reason

    def shelves(self) -> tuple[Shelf[Any], ...]:
        """Every shelf, in the order `show` searches them."""
        return (self.adapters, self.datasets, self.backbones, self.metrics, self.references)

    def broken(self) -> list[PluginInfo]:
        """The plugins that did not load."""
        return [plugin for plugin in self.plugins if plugin.error]


def build_registry() -> Registry:
    """Register the built-in plugins, then every installed entry point, in order of name."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    registry = Registry(manager)
    version = metadata.version("ttt-bench")
    for part in BUILT_IN:
        info = PluginInfo(part, "ttt-bench", version)
        registry.add(info, lambda part=part: import_module(f"ttt_bench.{part}.plugin"))
    points = metadata.entry_points(group=ENTRY_POINT_GROUP)
    for point in sorted(points, key=lambda point: point.name):
        found = point.dist
        info = PluginInfo(
            point.name,
            found.metadata["Name"] if found else "unknown",
            found.version if found else "unknown",
        )
        registry.add(info, point.load)
    return registry


@cache
def registry() -> Registry:
    """The registry of this process."""
    return build_registry()
