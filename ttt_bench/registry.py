"""Finding plugins, and keeping a broken one from breaking anything else."""

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module, metadata
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

import pluggy

from ttt_bench.api import hookspecs
from ttt_bench.api.errors import UserError, described, unknown
from ttt_bench.api.specs import (
    AdapterSpec,
    BackboneSpec,
    DatasetSpec,
    ExecutorSpec,
    GoldenSpec,
    MetricSpec,
    ReferenceSpec,
    Spec,
    TrackerSpec,
)

ENTRY_POINT_GROUP = "ttt_bench"
BUILT_IN = ("baselines", "backbones", "datasets", "executors", "metrics", "references")

SpecT = TypeVar("SpecT", bound=Spec)


@dataclass
class PluginInfo:
    """One plugin as `ttt-bench list plugins` shows it; `error` is empty where it loaded."""

    name: str
    distribution: str
    version: str
    error: str = ""


@dataclass(frozen=True)
class Registered(Generic[SpecT]):
    """A spec and the plugin that brought it."""

    spec: SpecT
    plugin: PluginInfo


class Catalog(Mapping[str, Registered[SpecT]], Generic[SpecT]):
    """Everything of one kind that plugins have brought, by name."""

    def __init__(self, what: str, spec_type: type[SpecT]) -> None:
        self.what = what
        self.spec_type = spec_type
        self.plugins: list[PluginInfo] = []
        self._items: dict[str, Registered[SpecT]] = {}

    def __getitem__(self, name: str) -> Registered[SpecT]:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def _broken_plugin(self, name: str) -> PluginInfo | None:
        """Return a broken plugin that may bring a name, the one called most like it first."""
        broken = {plugin.name: plugin for plugin in self.plugins if plugin.error}
        near = get_close_matches(name, [*broken, *self], n=1, cutoff=0.6)
        return None if near and near[0] in self else broken.get(next(iter(near or broken), ""))

    def validate(self, specs: Iterable[SpecT]) -> list[SpecT]:
        """Return the specs as a list.

        Raises:
            TypeError: one is not of this catalog's kind.
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
        """Take validated specs in."""
        self._items.update({spec.name: Registered(spec, plugin) for spec in specs})

    def remove(self, plugin: PluginInfo) -> None:
        """Take out what a plugin has brought."""
        self._items = {n: item for n, item in self._items.items() if item.plugin is not plugin}

    def find(self, name: str) -> Registered[SpecT]:
        """Return what is registered under the part of `name` before the first colon.

        The spec is that of the argument after the colon.

        Raises:
            UserError: nothing is, or an argument after the colon is missing or too much.
        """
        base, colon, argument = name.partition(":")
        if base not in self:
            if broken := self._broken_plugin(base):
                raise UserError(
                    f"no {self.what} {base!r} is registered, and plugin {broken.name} "
                    f"({broken.distribution}), which may bring it, is broken: {broken.error}"
                )
            raise unknown(self.what, name, self, hint=f"see `ttt-bench list {self.what}s`")
        metavar = getattr(self[base].spec, "argument", "")
        if metavar and not argument and not metavar.startswith("["):
            raise UserError(f"{self.what} {base!r} needs an argument: write {base}:{metavar}")
        if colon and not metavar:
            raise UserError(f"{self.what} {base!r} takes no argument; write {base}")
        item = self[base]
        return replace(item, spec=item.spec.for_argument(argument))


@dataclass
class Registry:
    """All plugins and what they have brought."""

    manager: pluggy.PluginManager
    plugins: list[PluginInfo] = field(default_factory=list)
    adapters: Catalog[AdapterSpec] = field(default_factory=lambda: Catalog("method", AdapterSpec))
    datasets: Catalog[DatasetSpec] = field(default_factory=lambda: Catalog("dataset", DatasetSpec))
    backbones: Catalog[BackboneSpec] = field(
        default_factory=lambda: Catalog("backbone", BackboneSpec)
    )
    metrics: Catalog[MetricSpec] = field(default_factory=lambda: Catalog("metric", MetricSpec))
    references: Catalog[ReferenceSpec] = field(
        default_factory=lambda: Catalog("reference", ReferenceSpec)
    )
    executors: Catalog[ExecutorSpec] = field(
        default_factory=lambda: Catalog("executor", ExecutorSpec)
    )
    trackers: Catalog[TrackerSpec] = field(default_factory=lambda: Catalog("tracker", TrackerSpec))
    goldens: Catalog[GoldenSpec] = field(default_factory=lambda: Catalog("golden", GoldenSpec))
    failed_hooks: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def __post_init__(self) -> None:
        for catalog in self.catalogs.values():
            catalog.plugins = self.plugins

    @property
    def catalogs(self) -> dict[str, Catalog[Any]]:
        """Every catalog by the name of its hook, in the order in which `show` searches them."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Catalog)}

    def add(self, info: PluginInfo, load: Callable[[], Any]) -> None:
        """Load one plugin and take what it brings, all of it or, if anything is wrong, nothing."""
        self.plugins.append(info)
        try:
            module = load()
            self.manager.register(module, name=info.name)
            self.manager.check_pending()
            brought = []
            for name, catalog in self.catalogs.items():
                for implementation in self._implementations(f"ttt_bench_{name}", info.name):
                    brought.append((catalog, catalog.validate(implementation())))
        # A plugin may raise anything, SystemExit included; only Ctrl-C is the user's.
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            info.error = described(error)
            if self.manager.has_plugin(info.name):
                self.manager.unregister(name=info.name)
            return
        for catalog, specs in brought:
            catalog.add(specs, info)

    def _implementations(self, hook: str, plugin: str) -> list[Callable[[], Any]]:
        """Return a plugin's implementations of a hook that registers something."""
        functions = []
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            if implementation.plugin_name == plugin:
                options = ("tryfirst", "trylast", "wrapper", "hookwrapper")
                used = [name for name in options if getattr(implementation, name)]
                if used:
                    raise ValueError(f"{hook} takes no {used[0]}; write @hookimpl alone")
                functions.append(implementation.function)
        return functions

    def call(self, hook: str, **arguments: Any) -> None:
        """Call a hook in every plugin that has it; one that raises is named, and stops no other.

        Each plugin gets a copy of the arguments, so that none can change what others see.

        Raises:
            UserError: a plugin refuses something the user asked for.
        """
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            values = {name: arguments[name] for name in implementation.argnames}
            # Commands are added to the group itself.
            copies = {n: v if n == "cli" else copy.deepcopy(v) for n, v in values.items()}
            try:
                implementation.function(**copies)
            except (UserError, KeyboardInterrupt):
                raise
            # A plugin may raise anything, SystemExit included.
            except BaseException as error:
                self._report_failed_hook(implementation.plugin_name, hook, error)

    def _report_failed_hook(self, plugin: str, hook: str, error: BaseException) -> None:
        """Say once for each plugin and hook that it failed; a hook may run for every chunk."""
        if (plugin, hook) not in self.failed_hooks:
            self.failed_hooks.add((plugin, hook))
            print(f"plugin {plugin}: {hook} failed ({described(error)})", file=sys.stderr)

    def broken(self) -> list[PluginInfo]:
        """Return the plugins that did not load."""
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
        distribution = point.dist
        info = PluginInfo(
            point.name,
            distribution.metadata["Name"] if distribution else "unknown",
            distribution.version if distribution else "unknown",
        )
        registry.add(info, point.load)
    return registry


@cache
def registry() -> Registry:
    """Return the registry of this process."""
    return build_registry()


@contextmanager
def registered(
    *,
    adapters: Sequence[AdapterSpec] = (),
    datasets: Sequence[DatasetSpec] = (),
    backbones: Sequence[BackboneSpec] = (),
    metrics: Sequence[MetricSpec] = (),
    references: Sequence[ReferenceSpec] = (),
    executors: Sequence[ExecutorSpec] = (),
    trackers: Sequence[TrackerSpec] = (),
    goldens: Sequence[GoldenSpec] = (),
    plugins: Sequence[object] = (),
    name: str = "registered",
) -> Iterator[None]:
    """Register specs and hooks in this process for the time of a `with` block.

    Tests and notebooks need no entry point then. Worker processes (`--workers`, Ray) know nothing
    of what is registered here; they find the plugins of installed distributions.

    Args:
        adapters: methods.
        datasets: datasets.
        backbones: backbones.
        metrics: metrics.
        references: published tables.
        executors: executors.
        trackers: trackers.
        goldens: numbers of original releases.
        plugins: objects or modules with methods or functions marked by `hookimpl`, such as
            something that listens to runs or adds commands.
        name: the name of the plugin that seems to bring all of it.

    Example:
        spec = AdapterSpec(name="mine", summary="my method", code="my_module:Mine")
        with ttt_bench.registered(adapters=[spec]):
            checks = adapter_checks("mine")

    Raises:
        ValueError: a name is taken already, or a plugin has an unknown hook.
    """
    module = SimpleNamespace(__name__=name)
    brought = {
        "adapters": adapters,
        "datasets": datasets,
        "backbones": backbones,
        "metrics": metrics,
        "references": references,
        "executors": executors,
        "trackers": trackers,
        "goldens": goldens,
    }
    for kind, specs in brought.items():
        setattr(module, f"ttt_bench_{kind}", hookspecs.hookimpl(lambda specs=specs: specs))
    # Blocks may be nested.
    while registry().manager.has_plugin(name):
        name += "+"
    names = [name, *(f"{name}-{number}" for number in range(1, len(plugins) + 1))]
    with ExitStack() as stack:
        for plugin_name, plugin in zip(names, [module, *plugins], strict=True):
            stack.enter_context(_registered_plugin(plugin_name, plugin))
        yield


@contextmanager
def _registered_plugin(name: str, plugin: object) -> Iterator[None]:
    """Register one plugin for the time of a `with` block.

    Raises:
        ValueError: it cannot be registered.
    """
    known, info = registry(), PluginInfo(name, "this process", "0")
    known.add(info, lambda: plugin)
    try:
        if info.error:
            raise ValueError(info.error.partition(": ")[2])
        yield
    finally:
        known.plugins.remove(info)
        for catalog in known.catalogs.values():
            catalog.remove(info)
        if known.manager.has_plugin(name):
            known.manager.unregister(name=name)
        known.failed_hooks = {failed for failed in known.failed_hooks if failed[0] != name}
