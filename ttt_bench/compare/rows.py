"""Rows of a table: runs of one method and configuration, which differ in the seed alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from jaxtyping import Bool

from ttt_bench.compare.labels import Named, labels, method_fields
from ttt_bench.compare.read import FinishedRun
from ttt_bench.compare.seeds import accuracy_interval
from ttt_bench.compare.statistics import wilson
from ttt_bench.runs.card import digest

# Parts of the method part that the seed has drawn.
DRAWN = ("chunks", "known_failures")
DRAWN_OF_STREAM = ("order", "revisited_chunks")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: what it is called; no other row of its table is called so.
        runs: one run for each seed, in the order of the seeds.
        summary: the run's summary, of several runs the mean of every number, with further fields:
            `variant`, the label; `seeds`; `sd`, the standard deviation over the seeds of every
            metric, None for one seed; `ci95`, the interval of top-1; `path` of the first run and
            `paths` of all.
    """

    label: str
    runs: tuple[FinishedRun, ...]
    summary: dict[str, Any]

    @property
    def first(self) -> FinishedRun:
        """The run of the first seed."""
        return self.runs[0]

    @property
    def correct(self) -> Bool[np.ndarray, "seeds samples"]:
        """Which predictions are right, for each seed."""
        return np.stack([run.records.correct for run in self.runs])


def make_rows(runs: Sequence[FinishedRun], column: str, by_seed: bool = False) -> list[Row]:
    """Return the rows of one table.

    Args:
        runs: runs on the same samples, their records in one order.
        column: the title of the table.
        by_seed: whether each run is a row of its own.
    """
    groups = [(run,) for run in runs] if by_seed else list(_by_method(runs))
    names = labels([_named(group[0], by_seed) for group in groups])
    return [
        Row(label, group, {**_summary(group), "variant": label, "column": column})
        for label, group in zip(names, groups, strict=True)
    ]


def _by_method(runs: Sequence[FinishedRun]) -> Iterator[tuple[FinishedRun, ...]]:
    """Yield the runs that differ in the seed alone; a copy of a run is in another group."""
    groups: list[tuple[tuple[str, str], dict[int, FinishedRun]]] = []
    for run in runs:
        kind = run.name, _without_seed(run.card.method)
        seed = run.card.protocol["seed"]
        group = next((seeds for one, seeds in groups if one == kind and seed not in seeds), None)
        if group is None:
            group = {}
            groups.append((kind, group))
        group[seed] = run
    for _, seeds in groups:
        yield tuple(seeds[seed] for seed in sorted(seeds))


def _without_seed(method: Mapping[str, Any]) -> str:
    """Return a digest of a method part without what the seed has drawn."""
    fields = {name: value for name, value in method.items() if name not in DRAWN}
    stream = fields.get("stream")
    if isinstance(stream, Mapping):
        fields["stream"] = {k: v for k, v in stream.items() if k not in DRAWN_OF_STREAM}
    return digest(fields)


def _named(run: FinishedRun, by_seed: bool) -> Named:
    fields = method_fields(run.card)
    if by_seed:
        fields["seed"] = str(run.card.protocol["seed"])
    return Named(run.name, fields, str(run.path))


def _summary(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Return the summary of a row, see `Row`."""
    summaries = [run.summary for run in runs]
    first = summaries[0]
    paths = [str(run.path) for run in runs]
    about = {
        "seeds": [run.card.protocol["seed"] for run in runs],
        "path": paths[0],
        "paths": paths,
        "reference": None,
    }
    if len(runs) == 1:
        return {**first, **about, "sd": None, "ci95": wilson(runs[0].records.correct)}
    merged = {name: _mean([one.get(name) for one in summaries]) for name in first}
    spread = {
        name: stdev(one[name] for one in summaries)
        for name, value in merged.items()
        if is_number(value) and name != "n"
    }
    correct = np.stack([run.records.correct for run in runs])
    fixed = {name: first[name] for name in ("n", "batch_size", "revisited") if name in first}
    about |= {"seed": None, "sd": spread, "ci95": accuracy_interval(correct)}
    return {**merged, **fixed, **about}


def is_number(value: Any) -> bool:
    """Say whether a value of a summary is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mean(values: Sequence[Any]) -> Any:
    """Return the mean of numbers, also of those in lists and by name; else the first value.

    A number that a run lacks makes the mean None.
    """
    first = values[0]
    if all(is_number(value) for value in values):
        return fmean(values)
    if all(isinstance(value, Mapping) for value in values):
        names = [name for name in first if all(name in value for value in values)]
        return {name: _mean([value[name] for value in values]) for name in names}
    if all(isinstance(value, list) for value in values):
        if any(isinstance(one, str) for value in values for one in value):
            # Names of streams that have collapsed.
            return list(dict.fromkeys(one for value in values for one in value))
        same = len({len(value) for value in values}) == 1
        return [_mean(some) for some in zip(*values, strict=True)] if same else []
    return None if any(value is None or is_number(value) for value in values) else first
