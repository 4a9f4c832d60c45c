"""Runs that are asked for from Python, by names or by objects."""

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError
from ttt_bench.api.specs import AdapterSpec
from ttt_bench.api.text import plain
from ttt_bench.compare.read import read_runs
from ttt_bench.python.objects import registered_objects
from ttt_bench.python.options import checked_options
from ttt_bench.python.results import Results
from ttt_bench.runner.asking import Request, require_known
from ttt_bench.runner.config_file import flat_settings

Method = str | type[Adapter[Any]] | AdapterSpec
Data = str | Dataset | type[Dataset]
ValueT = TypeVar("ValueT")


def run(
    methods: Method | Iterable[Method],
    datasets: Data | Iterable[Data],
    backbones: str | Iterable[str] = (),
    seeds: int | Iterable[int] = 0,
    limit: int | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Any] | None = None,
    **options: Any,
) -> Results:
    """Run methods on datasets under one protocol, as `ttt-bench run` does.

    All combinations of methods, datasets, backbones and seeds are run. Finished chunks of samples
    are saved as they come, so the same call continues what was interrupted, and computes nothing
    where all is there. A run that fails stops no other; it is named on standard error and in
    `Results.failures`.

    Args:
        methods: one or several. Each is a name with settings or without, such as "apm:steps=5", an
            `Adapter` subclass, or an `AdapterSpec`. A class needs no plugin: it is called as in
            `AdapterSpec.of`, and its code on the card is its source.
        datasets: one or several. Each is a name, a `Dataset`, or a class that takes no argument.
        backbones: names of backbones; none for each dataset's own.
        seeds: one or several.
        limit: number of samples, spread evenly over the dataset's groups; None for all.
        settings: values of the methods' configurations: `{"steps": 5}` for every method that has
            the field, `{"apm.steps": 5}` for one method.
        sweep: several values for a setting, such as `{"apm.steps": [5, 20]}`, all combined.
        options: further options of `ttt-bench run` by name, with underscores: `device`,
            `batch_size`, `precision`, `output`, `data_root`, `workers`, `fresh`, `stream` and
            others; see `ttt-bench run --help`.

    Example:
        results = ttt_bench.run(["clip-zero-shot", Mine], "cifar10-c-mini", limit=96)
        results.frame()

    Raises:
        UserError: an unknown name, a value that is refused, an object where other processes
            compute, or no run that could be finished.
    """
    listed = {"methods": _listed(methods), "datasets": _listed(datasets), "seeds": _listed(seeds)}
    for name, some in listed.items():
        if not some:
            raise UserError(f"{name} is empty; give at least one")
    several = {"backbone": _listed(backbones), "seed": listed["seeds"]}
    given = checked_options({**several, "limit": limit, **options})
    repeated = {name: given.pop(name) for name in several}
    data_root = given.get("data_root")
    with registered_objects(listed["methods"], listed["datasets"], data_root) as asked:
        if asked.given:
            _require_this_process(given, asked.given)
        request = Request(
            variants=asked.variants,
            datasets=asked.datasets,
            backbones=repeated["backbone"],
            seeds=repeated["seed"],
            settings=dict(flat_settings(settings or {})),
            sweeps=_sweeps(sweep or {}),
        )
        require_known(request, given.get("executor", "local"), given.get("track", ()))
        results = run_request(request, given, asked.objects)
    *others, last = results.failures or [""]
    told = [*others, last] if results.runs else others
    for line in filter(None, told):
        print(plain(line), file=sys.stderr)
    if not results.runs:
        raise UserError(last)
    return results


def run_request(
    request: Request, options: Mapping[str, Any], objects: Mapping[str, Dataset] | None = None
) -> Results:
    """Run what is asked for, by names that are known, with progress on standard error.

    Args:
        request: methods, datasets, backbones, seeds and settings.
        options: the other fields of `RunConfig`.
        objects: datasets that are loaded already, by name.

    Raises:
        UserError: something stands against a run before the first one starts.
    """
    configs = request.runs(options)
    # From here on things may take a while: torch is imported.
    from ttt_bench.runner.loading import Loaded
    from ttt_bench.runner.progress import RunProgress
    from ttt_bench.runner.run import failure_lines, run_all

    root = options.get("data_root")
    loaded = Loaded(datasets={(name, root): one for name, one in (objects or {}).items()})
    with RunProgress(), warnings.catch_warnings():
        # The progress bars of model libraries in notebooks, which nothing here shows.
        warnings.filterwarnings("ignore", message="IProgress not found")
        summaries, failures = run_all(configs, loaded)
    paths = [Path(summary["path"]) for summary in summaries]
    # The runs have warned of metrics that fail already.
    runs = read_runs(paths, lambda _: None) if paths else []
    return Results(
        runs,
        failure_lines(failures),
        {one.identity: one for one in (objects or {}).values()},
        {"runs": summaries, "failures": failures},
    )


def _listed(value: Any) -> list[Any]:
    """Return one value or several as a list."""
    if isinstance(value, str | type | Dataset) or not isinstance(value, Iterable):
        return [value]
    return list(value)


def _sweeps(sweep: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values of each setting that is swept.

    Raises:
        UserError: one has no list of values.
    """
    found: dict[str, list[Any]] = {}
    for key, values in flat_settings(sweep):
        if isinstance(values, str) or not isinstance(values, Iterable) or not [*values]:
            raise UserError(f"sweep: {key} needs a list of values, such as {{{key!r}: [1, 2]}}")
        found[key] = [*values]
    return found


def _require_this_process(options: Mapping[str, Any], given: Sequence[str]) -> None:
    """Refuse other processes for what only this process knows.

    Raises:
        UserError: chunks would be computed elsewhere.
    """
    executor, workers = options.get("executor", "local"), options.get("workers") or 1
    if executor != "local" or workers > 1:
        option = f"executor={executor!r}" if executor != "local" else f"workers={workers}"
        raise UserError(
            f"{option}: other processes do not know {given[0]}, which is given as an object; leave "
            "the option out, or make a plugin of it (`ttt-bench new-method`)"
        )
