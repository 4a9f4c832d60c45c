"""Figures of a comparison, for a paper and for the report page."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ttt_bench.api.text import plain
from ttt_bench.compare.names import row_name
from ttt_bench.compare.pareto import COSTS, front
from ttt_bench.compare.read import FinishedRun
from ttt_bench.datasets.corruptions import SHORT_NAMES
from ttt_bench.metrics.calibration import BINS, reliability
from ttt_bench.metrics.streams import rows_by_stream

# Width of a text column, in inches; labels stay readable at it.
WIDTH = 6.5
# Of a stream, one is the number of samples that a running accuracy is over.
WINDOWS = 30


def names(runs: Sequence[FinishedRun]) -> list[str]:
    """Return a name for each run: its method, with its backbone where methods repeat."""
    methods = [row_name(run.summary) for run in runs]
    return [
        name if methods.count(name) == 1 else f"{name} ({run.summary['backbone']})"
        for name, run in zip(methods, runs, strict=True)
    ]


def pareto(runs: Sequence[FinishedRun]) -> Figure | None:
    """Draw top-1 against GFLOPs, memory and time, with the Pareto fronts."""
    figure = Figure((WIDTH, 3), layout="constrained")
    labels, colours = _labels(runs), _colours(len(runs))
    rows = [run.summary for run in runs]
    axes = figure.subplots(1, len(COSTS), sharey=True)
    for axis, (cost, label) in zip(axes, COSTS.items(), strict=True):
        best = [rows[index] for index in front(rows, cost)]
        xs, ys = [row["cost"][cost] for row in best], [row["top1"] for row in best]
        axis.step(xs, ys, where="post", color="grey", linewidth=1, linestyle="--", zorder=1)
        costs, accuracies = [row["cost"][cost] for row in rows], [row["top1"] for row in rows]
        axis.scatter(costs, accuracies, color=colours, s=22, zorder=2)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(label)
    axes[0].set_ylabel("top-1 %")
    for name, colour in zip(labels, colours, strict=True):
        axes[0].plot([], [], color=colour, label=name, marker="o", linestyle="none", markersize=4)
    _legend(figure, axes[0], len(runs))
    return figure


def corruptions(runs: Sequence[FinishedRun]) -> Figure | None:
    """Draw top-1 of every run under every corruption, as a heat map; None without corruptions."""
    present = [c for c in SHORT_NAMES if any(c in run.summary["corruptions"] for run in runs)]
    if not present:
        return None
    values = np.array(
        [[run.summary["corruptions"].get(name, np.nan) for name in present] for run in runs]
    )
    figure = Figure((WIDTH, 1.2 + 0.28 * len(runs)), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(values, vmin=0, vmax=100, aspect="auto", cmap="viridis")
    axis.set_xticks(range(len(present)), [SHORT_NAMES[name] for name in present], rotation=60)
    axis.set_yticks(range(len(runs)), _labels(runs))
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            light = "white" if value < 60 else "black"
            text = axis.text(column, row, f"{value:.0f}", ha="center", va="center", size=7)
            text.set_color(light)
            # The numbers lie inside the axes, so the layout need not measure them.
            text.set_in_layout(False)
    figure.colorbar(image, label="top-1 %")
    return figure


def steps(runs: Sequence[FinishedRun]) -> Figure | None:
    """Draw top-1 after each step, and the oracle over the steps; None if no run iterates."""
    iterating = [run for run in runs if run.summary["step_top1"]]
    if not iterating:
        return None
    figure = Figure((WIDTH, 3.2), layout="constrained")
    axis = figure.subplots()
    for run, name, colour in zip(
        iterating, _labels(iterating), _colours(len(iterating)), strict=True
    ):
        accuracies = run.summary["step_top1"]
        axis.plot(range(1, len(accuracies) + 1), accuracies, color=colour, marker=".", label=name)
        axis.axhline(run.summary["oracle_top1"], color=colour, linestyle=":", linewidth=1)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("step (dotted: oracle over the steps, an upper bound that sees labels)")
    axis.set_ylabel("top-1 %")
    _legend(figure, axis, len(iterating))
    return figure


def calibration(runs: Sequence[FinishedRun]) -> Figure | None:
    """Draw accuracy in each of 15 bins of confidence; calibrated methods lie on the diagonal."""
    figure = Figure((WIDTH, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 100], [0, 100], color="grey", linewidth=1, linestyle="--")
    for run, name, colour in zip(runs, _labels(runs), _colours(len(runs)), strict=True):
        bins = np.array(reliability(run.records))
        filled = bins[bins[:, 0] > 0]
        label = f"{name} (ECE {run.summary['ece']:.1f})"
        axis.plot(filled[:, 2], filled[:, 1], color=colour, marker=".", label=label)
    axis.set_xlabel(f"confidence, %, {BINS} bins")
    axis.set_ylabel("accuracy, %")
    _legend(figure, axis, len(runs))
    return figure


def streams(runs: Sequence[FinishedRun]) -> Figure | None:
    """Draw the running top-1 along each stream, with the borders of the groups.

    A panel shows the online runs of one dataset and one kind of stream, and the episodic ones on
    the same samples in that order. None if no run is online.
    """
    panels: dict[tuple[Any, ...], list[FinishedRun]] = {}
    for run in runs:
        if run.records.position is not None:
            summary = run.summary
            name = summary["dataset"], summary["stream"], summary["correlation"]
            panels.setdefault(name, []).append(run)
    if not panels:
        return None
    figure = Figure((WIDTH, 0.6 + 2.2 * len(panels)), layout="constrained")
    colours = dict(zip(_labels(runs), _colours(len(runs)), strict=True))
    for axis, ((dataset, stream, _), online) in zip(
        np.atleast_1d(figure.subplots(len(panels))), panels.items(), strict=True
    ):
        order = _order_along(online[0])
        episodic = [
            run
            for run in runs
            if run.records.position is None and run.summary["dataset"] == dataset
        ]
        for run, name in zip(runs, _labels(runs), strict=True):
            if any(run is one for one in online):
                axis.plot(*_running(run, _order_along(run)), color=colours[name], label=name)
            elif any(run is one for one in episodic):
                line = _running(run, order)
                axis.plot(*line, color=colours[name], label=name, linewidth=0.8, linestyle="--")
        groups = online[0].records.in_order_of(order).group
        if stream != "mixed":
            for border in (
                place for place in range(1, len(order)) if groups[place] != groups[place - 1]
            ):
                axis.axvline(border, color="grey", linewidth=0.4)
        axis.set_title(plain(f"{dataset}, {stream}").replace("$", r"\$"), size=8)
        axis.set_ylabel("running top-1 %")
        axis.set_xlabel("place in the stream (dashed: episodic methods on the same samples)")
    lines = {
        label: handle
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=2, fontsize=7)
    return figure


def _order_along(run: FinishedRun) -> list[str]:
    """Return the ids of an online run's samples, one stream after another."""
    rows = np.concatenate(list(rows_by_stream(run.records).values()))
    return [run.records.sample_id[int(row)] for row in rows]


def _running(run: FinishedRun, order: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return places in a stream, and the top-1 of the samples around each."""
    correct = run.records.in_order_of(order).correct.astype(float)
    window = max(1, len(correct) // WINDOWS)
    accuracy = 100 * np.convolve(correct, np.ones(window) / window, "valid")
    return np.arange(len(accuracy)) + window / 2, accuracy


FIGURES: dict[str, Callable[[Sequence[FinishedRun]], Figure | None]] = {
    "pareto": pareto,
    "corruptions": corruptions,
    "steps": steps,
    "calibration": calibration,
    "streams": streams,
}


def _labels(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the runs' names as matplotlib draws them: a dollar would begin a formula."""
    return [plain(name).replace("$", r"\$") for name in names(runs)]


def _colours(count: int) -> list[Any]:
    return [colormaps["tab20"](number % 20) for number in range(count)]


def _legend(figure: Figure, axis: Any, count: int) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, count), fontsize=7)
