"""What a command asks for: variants of methods, sweeps, seeds, backbones and datasets, as runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from ttt_bench.api.errors import UserError
from ttt_bench.registry import registry
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.settings import split_settings
from ttt_bench.runner.tracking import find_tracker
from ttt_bench.runner.values import read_value, read_variant, split_commas
from ttt_bench.runs.card import digest

# A folder's name is cut to this many characters.
LONGEST_FOLDER = 100
KEPT = "-_.=,+@"


@dataclass(frozen=True)
class Variant:
    """A method with settings of its own.

    Attributes:
        method: the method.
        settings: its settings by name, which win over those of the command.
        name: what the user calls its runs, "" for no name.
        datasets: its datasets, empty for those of the command.
        backbones: its backbones, empty for those of the command.
        seeds: its seeds, empty for those of the command.
        options: fields of `RunConfig`, such as `limit`, in place of those of the command.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    datasets: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a command asks for; its runs are all combinations.

    Attributes:
        variants: the methods, each with its settings.
        datasets: the datasets.
        backbones: the backbones, empty for each dataset's own.
        seeds: the seeds.
        settings: settings of every method that has them, or `METHOD.KEY` of one.
        sweeps: several values for a setting, named in the same way.
    """

    variants: Sequence[Variant]
    datasets: Sequence[str] = ()
    backbones: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    sweeps: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def runs(self, options: Mapping[str, Any]) -> list[RunConfig]:
        """Return one configuration for each run, without repetitions.

        Args:
            options: the other fields of `RunConfig`, equal in all runs.

        Raises:
            UserError: an unknown name, a setting that no method has, one that is given twice, or a
                file of weights for several backbones.
        """
        if options.get("weights") is not None and len({*self.all_backbones()}) > 1:
            raise UserError(
                "--weights is for one backbone; run each backbone by a command of its own"
            )
        plugins = registry()
        specs = {one.method: plugins.adapters.find(one.method).spec for one in self.variants}
        shared = split_settings(self.settings, specs)
        swept = split_settings(self.sweeps, specs, "--sweep")
        runs: list[RunConfig] = []
        for config in self._combined(shared, swept, options):
            if config not in runs:
                runs.append(config)
        return _with_folders(runs)

    def all_backbones(self) -> Iterator[str]:
        """Yield the names of the backbones that are asked for."""
        yield from self.backbones
        for one in self.variants:
            yield from one.backbones

    def _combined(
        self,
        shared: Mapping[str, Mapping[str, Any]],
        swept: Mapping[str, Mapping[str, Sequence[Any]]],
        options: Mapping[str, Any],
    ) -> Iterator[RunConfig]:
        datasets = dict.fromkeys(
            name for one in self.variants for name in one.datasets or self.datasets
        )
        for dataset, variant in product(datasets, self.variants):
            if dataset not in (variant.datasets or self.datasets):
                continue
            sweeps = swept[variant.method]
            _require_once(variant, shared[variant.method], sweeps)
            seeds = variant.seeds or self.seeds
            for backbone, values, seed in product(
                variant.backbones or self.backbones or (None,),
                product(*sweeps.values()),
                seeds,
            ):
                one = dict(zip(sweeps, values, strict=True))
                several = {
                    "backbone": backbone if len(variant.backbones or self.backbones) > 1 else None,
                    "seed": seed if len({*seeds}) > 1 else None,
                }
                words = _words(variant, one, several)
                yield RunConfig(
                    method=variant.method,
                    dataset=dataset,
                    backbone=backbone,
                    seed=seed,
                    settings={**shared[variant.method], **variant.settings, **one},
                    name=variant.name,
                    folder=_folder(words),
                    title=" ".join(words),
                    **{**options, **variant.options},
                )


def read_sweeps(pairs: Sequence[str]) -> dict[str, list[Any]]:
    """Read `METHOD.KEY=V1,V2,...` options; a comma within brackets or quotes belongs to a value.

    Raises:
        UserError: one has no key or no value, comes twice, or cannot be read.
    """
    sweeps: dict[str, list[Any]] = {}
    for pair in pairs:
        key, equals, values = pair.partition("=")
        if not equals or not key.strip() or not values.strip():
            raise UserError(
                f"--sweep {pair}: write METHOD.KEY=VALUE,VALUE,... such as --sweep apm.steps=5,20"
            )
        if key.strip() in sweeps:
            raise UserError(f"--sweep {key.strip()} comes twice; give all its values at once")
        sweeps[key.strip()] = [
            read_value(value, f"--sweep {pair}") for value in split_commas(values)
        ]
    return sweeps


def read_variants(texts: Sequence[str]) -> list[Variant]:
    """Read `NAME` and `NAME:KEY=VALUE,...` options.

    Raises:
        UserError: settings cannot be read.
    """
    return [Variant(*read_variant(text)) for text in texts]


def _require_once(
    variant: Variant, shared: Mapping[str, Any], sweeps: Mapping[str, Sequence[Any]]
) -> None:
    """Refuse a setting that has one value and several.

    Raises:
        UserError: there is one.
    """
    for key in sweeps:
        if key in variant.settings or key in shared:
            raise UserError(
                f"{variant.method}: {key} has one value and is in --sweep too; give it once"
            )


def _words(variant: Variant, swept: Mapping[str, Any], several: Mapping[str, Any]) -> list[str]:
    """Return what was typed for a run alone.

    Args:
        variant: the run's method.
        swept: its values of the settings that are swept.
        several: the values of the options of which the command has several, else None.
    """
    own = {} if variant.name else {**variant.settings, **variant.options}
    return [
        variant.name or variant.method,
        *(f"{key}={value}" for key, value in {**own, **swept}.items()),
        *([] if several["backbone"] is None else [str(several["backbone"])]),
        *([] if several["seed"] is None else [f"seed={several['seed']}"]),
    ]


def _folder(words: Sequence[str]) -> str:
    """Return the name of a run's folder, from what was typed for this run alone."""
    whole = "-".join(words)
    name = "".join(c if c.isalnum() or c in KEPT else "-" for c in whole).strip(".-")
    if not name or len(name.encode()) > LONGEST_FOLDER:
        name = f"{name[: LONGEST_FOLDER // 4]}-{digest(whole)[:8]}".lstrip("-")
    return name


def _with_folders(runs: Sequence[RunConfig]) -> list[RunConfig]:
    """Return the runs, each with a folder of its own below its dataset's."""
    places = [(run.dataset, run.folder) for run in runs]
    return [
        run
        if places.count(place) == 1
        else replace(run, folder=f"{run.folder}-{digest(str(run))[:8]}")
        for run, place in zip(runs, places, strict=True)
    ]


def require_known(request: Request, executor: str, trackers: Sequence[str] = ()) -> None:
    """Refuse names that nothing is registered under, before anything is loaded.

    Args:
        request: what the command asks for.
        executor: what computes it.
        trackers: what follows the runs.

    Raises:
        UserError: an unknown name, or nothing to run.
    """
    plugins = registry()
    if not request.variants:
        raise UserError("Missing option '--method' / '-m': name a method to run")
    for variant in request.variants:
        plugins.adapters.find(variant.method)
    datasets = [*request.datasets, *(name for one in request.variants for name in one.datasets)]
    if not request.datasets and not all(one.datasets for one in request.variants):
        raise UserError("Missing option '--dataset' / '-d': name a dataset to run on")
    for name in datasets:
        plugins.datasets.find(name)
    for name in request.all_backbones():
        plugins.backbones.find(name)
    plugins.executors.find(executor)
    for name in trackers:
        find_tracker(name)
