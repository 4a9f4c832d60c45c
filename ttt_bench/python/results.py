"""Finished runs in Python: as frames, tables, images and figures."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError, unknown
from ttt_bench.compare.pairs import tabulate
from ttt_bench.compare.read import FinishedRun, read_runs
from ttt_bench.compare.selection import Wanted, chosen_runs, require_named, sorted_rows, where
from ttt_bench.metrics.summary import print_warning
from ttt_bench.python.frames import frame, records_frame
from ttt_bench.report import tidy
from ttt_bench.report.comparison import Comparison, comparison
from ttt_bench.report.findings import findings
from ttt_bench.report.render import WITHOUT_TERMINAL, rendered
from ttt_bench.runner.values import read_variant
from ttt_bench.runs.folder import DEFAULT_OUTPUT

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False, eq=False)
class Compared:
    """Runs side by side, as `ttt-bench compare` shows them. A notebook shows the table.

    Attributes:
        comparison: the tables, rows and pairs as the reports take them.
        left_out: a line for each run that fits no table.
    """

    comparison: Comparison
    left_out: Sequence[str]

    @property
    def rows(self) -> "pd.DataFrame":
        """The rows of the tables, each with its difference to the baseline and its interval.

        Runs that differ in the seed alone are one row, with the mean of every number and the
        standard deviation of top-1 over the seeds.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(tidy.rows(self.comparison))

    @property
    def pairs(self) -> "pd.DataFrame":
        """The pairs of rows: difference in top-1, interval, p and p after Holm's correction.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(tidy.pairs(self.comparison))

    @property
    def groups(self) -> "pd.DataFrame":
        """The metrics by corruption or domain: a line for each run, metric and group.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(tidy.groups(self.comparison))

    def plot(self, figure: str = "pareto", table: str | None = None) -> Any:
        """Draw a figure of the report, as a figure of pyplot that a notebook shows.

        Args:
            figure: `differences` (to the baseline), `pareto` (accuracy against cost), `sweeps`,
                `seeds`, `corruptions`, `steps`, `calibration` or `streams`.
            table: the title of the table to draw, None for the first.

        Returns:
            The matplotlib `Axes`; an array of them where the figure has several.

        Raises:
            UserError: there is no such figure or table, or the figure does not apply to its rows.
        """
        import numpy as np
        from matplotlib import pyplot

        from ttt_bench.report.figures import FIGURES

        by_title = {one.title: one for one in self.comparison.tables}
        title = next(iter(by_title)) if table is None else table
        if figure not in FIGURES:
            raise unknown("figure", figure, FIGURES)
        if title not in by_title:
            raise unknown("table", title, by_title)
        drawn = FIGURES[figure](
            by_title[title].rows, lambda size, **options: pyplot.figure(figsize=size, **options)
        )
        if drawn is None:
            raise UserError(f"the rows of {title} have nothing to draw for {figure}")
        # A colour bar is an axis too, of no interest to a reader.
        axes = [axis for axis in drawn.axes if axis.get_label() != "<colorbar>"]
        return axes[0] if len(axes) == 1 else np.array(axes, dtype=object)

    def __repr__(self) -> str:
        width = shutil.get_terminal_size((WITHOUT_TERMINAL, 0)).columns
        shown = self.comparison
        notes = [*shown.notes, *self.left_out]
        return rendered(shown.chosen(), "text", notes, findings(shown.compared), width=width)

    def _repr_html_(self) -> str:
        shown = self.comparison
        notes = [*findings(shown.compared), *shown.notes, *self.left_out]
        return rendered(shown.chosen(), "html", notes)


@dataclass(frozen=True, repr=False, eq=False)
class Results:
    """Finished runs. A notebook shows their table.

    Attributes:
        runs: the runs, each with its protocol card, its records and its summary.
        failures: a line for each run that could not be finished.
        datasets: the datasets that were given as objects, by their names on the cards.
        printed: what `run --format json` prints: summaries and failures.
    """

    runs: Sequence[FinishedRun]
    failures: Sequence[str] = ()
    datasets: Mapping[str, Dataset] = field(default_factory=dict[str, Dataset])
    printed: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __len__(self) -> int:
        return len(self.runs)

    def frame(self) -> "pd.DataFrame":
        """Return the runs, a row for each, as `ttt-bench compare --format csv` prints them.

        The columns are the label (`variant`), method, dataset, backbone, seed and further facts of
        the card, the configuration (`config.*`), top-1 with its 95 % interval, all other metrics
        and the costs. Accuracies are in percent.

        Raises:
            UserError: pandas is not installed.
        """
        return frame(tidy.runs(self._told.comparison))

    def records(self, run: str | None = None) -> "pd.DataFrame":
        """Return the saved predictions, a row for each sample of a run.

        The columns are the label of the run (`run`), `dataset`, `seed`, the sample's `id` and
        `group`, the true class (`label`, `class_name`), the predicted one (`prediction`,
        `predicted_name`), its `confidence` from 0 to 1, and whether it is `correct`. Where runs
        have them: the prediction before the first step (`unadapted`) and after each step (`steps`),
        and the place in the stream (`stream`, `position`).

        Args:
            run: the runs to return, by label (`variant` in `frame`), by method, or by
                `METHOD:KEY=VALUE`; None for all.

        Raises:
            UserError: no run is called so, or pandas is not installed.
        """
        tables = self._told.comparison.tables
        pairs = [(table, row) for table in tables for row in table.rows]
        if run is not None:
            named = _wanted(run)
            require_named([row for _, row in pairs], named, "records(run)")
            pairs = [(table, row) for table, row in pairs if named.names(row)]
        return records_frame(pairs)

    def image(self, sample_id: str) -> Image.Image:
        """Return the image of a sample, as the methods saw it before the backbone's transform.

        Args:
            sample_id: the sample's `id` in `records`.

        Raises:
            UserError: no run has the sample, its dataset is not here, or the image here has other
                pixels than the one that the run saw.
        """
        from ttt_bench.cache.features import image_name
        from ttt_bench.preparation.parts import open_entry

        run = next((run for run in self.runs if sample_id in run.records.sample_id), None)
        if run is None:
            raise UserError(f"no run has a sample {sample_id!r}; their ids are in records()")
        dataset, indices = self._dataset(run)
        if sample_id not in indices:
            raise UserError(
                f"sample {sample_id} is not in {dataset.name} here; give data of the same revision"
            )
        image = open_entry(dataset, indices[sample_id])
        digest = run.records.image_digest[list(run.records.sample_id).index(sample_id)]
        if digest and digest != image_name(image):
            raise UserError(f"the image of sample {sample_id} in {dataset.name} has other pixels")
        return image

    def compare(
        self,
        against: str | None = None,
        *,
        only: str | Iterable[str] = (),
        without: str | Iterable[str] = (),
        where: Mapping[str, Any] | None = None,
        by_seed: bool = False,
        sort: str | None = None,
        metrics: str | Iterable[str] = (),
        reference: str | None = None,
    ) -> Compared:
        """Compare the runs with one another, as `ttt-bench compare` does.

        Args:
            against: the row that all others are compared with, by label or method; None for every
                pair.
            only: the rows to show, by label, method or `METHOD:KEY=VALUE`; none for all.
            without: the rows to leave out.
            where: values of fields of the card or the configuration, such as `{"limit": 96}`.
            by_seed: whether each seed is a row of its own.
            sort: the metric or cost that orders the rows, the best first, or "name".
            metrics: the metrics and costs to show; none for the usual ones.
            reference: published numbers to set beside the measured ones.

        Raises:
            UserError: a name is of no row, metric or reference, or runs of one table saw other
                pixels.
        """
        tables, left_out = tabulate(_where(self.runs, where), by_seed)
        if only or without:
            rows = [row for table in tables for row in table.rows]
            kept = [_wanted(one, "--only") for one in _texts(only)]
            dropped = [_wanted(one, "--without") for one in _texts(without)]
            tables, _ = tabulate(chosen_runs(rows, kept, dropped), by_seed)
        if sort:
            tables = [replace(one, rows=sorted_rows(one.rows, sort)) for one in tables]
        named = None if against is None else _wanted(against, "--against")
        return Compared(comparison(tables, reference, named, _texts(metrics)), left_out)

    def plot(self, figure: str = "pareto", table: str | None = None) -> Any:
        """Draw a figure of the report; see `Compared.plot`."""
        return self._told.plot(figure, table)

    def as_json(self) -> dict[str, Any]:
        """Return what `run --format json` prints, each run with the label of its row.

        Runs that cannot be compared are called as their methods.
        """
        try:
            rows = self._compared.comparison.compared["rows"]
        except UserError:
            rows = []
        labels = {path: row["variant"] for row in rows for path in row["paths"]}
        read = [{**run.summary, "path": str(run.path)} for run in self.runs]
        runs = [
            {**run, "variant": labels.get(run["path"], run["method"])}
            for run in self.printed.get("runs", read)
        ]
        failures = [asdict(failure) for failure in self.printed.get("failures", ())]
        return {"runs": runs, **({"failures": failures} if failures else {})}

    def __repr__(self) -> str:
        return "\n".join([repr(self._compared), *self.failures])

    def _repr_html_(self) -> str:
        failed = rendered([], "html", self.failures)
        return "\n\n".join(filter(None, [self._compared._repr_html_(), failed]))

    @cached_property
    def _compared(self) -> Compared:
        return self.compare()

    @cached_property
    def _told(self) -> Compared:
        """The usual comparison; the runs that are not in it are named on standard error, once."""
        for line in self._compared.left_out:
            print_warning(line)
        return self._compared

    def _dataset(self, run: FinishedRun) -> tuple[Dataset, dict[str, int]]:
        """Return the dataset of a run, and its entries by the ids of their samples.

        Raises:
            UserError: it is not here.
        """
        name = run.card.protocol["dataset"]
        if name not in self._loaded:
            dataset = self.datasets.get(name) or run.load_dataset()
            ids = map(dataset.sample_id, range(len(dataset.entries)))
            self._loaded[name] = dataset, {sample: index for index, sample in enumerate(ids)}
        return self._loaded[name]

    @cached_property
    def _loaded(self) -> dict[str, tuple[Dataset, dict[str, int]]]:
        return {}


def load(paths: str | Path | Iterable[str | Path] = DEFAULT_OUTPUT) -> Results:
    """Read finished runs, and score them again from their records.

    Unfinished runs are named on standard error and left out.

    Args:
        paths: a folder of runs or a file that `ttt-bench export` made, or several of them.

    Example:
        ttt_bench.load("results.zip").compare(against="clip-zero-shot")

    Raises:
        UserError: there is no finished run, or one is damaged.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if not several:
        raise UserError("paths is empty; give a folder of runs or an exported file")
    return Results(read_runs([Path(path) for path in several]))


def _where(runs: Sequence[FinishedRun], wanted: Mapping[str, Any] | None) -> list[FinishedRun]:
    # The parameter of `compare` has the function's name.
    return where(runs, wanted or {})


def _texts(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _wanted(text: str, option: str = "run") -> Wanted:
    """Return the rows that a text names."""
    # The label of a row may hold a colon.
    try:
        method, settings = read_variant(text, option)
    except UserError:
        method, settings = text, {}
    return Wanted(text, method, settings)
