"""Figures of a comparison, for a paper and for the report page."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ttt_bench.compare.pareto import COSTS, front
from ttt_bench.compare.rows import Row
from ttt_bench.datasets.corruptions import SHORT_NAMES
from ttt_bench.metrics.calibration import BINS, reliability
from ttt_bench.metrics.streams import rows_by_stream
from ttt_bench.report.differences import WIDTH, differences, seeds, sweeps
from ttt_bench.report.palette import (
    NewFigure,
    colours,
    figure_labels,
    in_figure,
    legend,
    markers,
    titled,
)

# Draws a figure of some rows, None where it does not apply; `new` makes the empty figure.
Draw = Callable[..., Figure | None]

# Areas of marks, in points; of marks at one place the first is the largest, so that all are seen.
LARGEST, SMALLEST = 180.0, 20.0
# Of a stream, one is the number of samples that a running accuracy is over.
WINDOWS = 30


def pareto(rows: Sequence[Row], new: NewFigure = Figure) -> Figure | None:
    """Draw top-1 against GFLOPs, memory and time, with the Pareto fronts."""
    figure = new((WIDTH, 3), layout="constrained")
    labels = figure_labels(rows)
    styles = list(zip(rows, labels, colours(len(rows)), markers(len(rows)), strict=True))
    summaries = [row.summary for row in rows]
    axes = figure.subplots(1, len(COSTS), sharey=True)
    for axis, (cost, label) in zip(axes, COSTS.items(), strict=True):
        best = [summaries[index] for index in front(summaries, cost)]
        xs, ys = [one["cost"][cost] for one in best], [one["top1"] for one in best]
        axis.step(xs, ys, where="post", color="grey", linewidth=1, linestyle="--", zorder=1)
        areas = _areas([(one["cost"][cost], one["top1"]) for one in summaries])
        for (row, _, colour, marker), area in zip(styles, areas, strict=True):
            x, y = row.summary["cost"][cost], row.summary["top1"]
            mark = axis.scatter(
                [x], [y], color=colour, marker=marker, s=area, zorder=2, edgecolors="white",
                linewidths=0.6,
            )  # fmt: skip
            titled(mark, f"{row.label}: top-1 {y:.1f} %, {x:.3g} {label}")
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=4))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.tick_params(labelsize=7)
        axis.set_xlabel(label)
    axes[0].set_ylabel("top-1 %")
    for _, name, colour, marker in styles:
        axes[0].plot(
            [], [], color=colour, label=name, marker=marker, linestyle="none", markersize=4
        )
    legend(figure, axes[0], len(rows))
    return figure


def _areas(points: Sequence[tuple[float, float]]) -> list[float]:
    """Return the area of each mark: of those at one place, each is smaller than the one before."""
    places = [(f"{x:.2g}", round(y)) for x, y in points]
    return [
        min(LARGEST, SMALLEST * 3 ** places[number + 1 :].count(place))
        for number, place in enumerate(places)
    ]


def corruptions(rows: Sequence[Row], new: NewFigure = Figure) -> Figure | None:
    """Draw top-1 of every row under every corruption, as a heat map; None without corruptions."""
    present = [c for c in SHORT_NAMES if any(c in row.summary["corruptions"] for row in rows)]
    if not present:
        return None
    values = np.array(
        [[row.summary["corruptions"].get(name, np.nan) for name in present] for row in rows]
    )
    figure = new((WIDTH, 1.2 + 0.28 * len(rows)), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(values, vmin=0, vmax=100, aspect="auto", cmap="viridis")
    axis.set_xticks(range(len(present)), [SHORT_NAMES[name] for name in present], rotation=60)
    axis.set_yticks(range(len(rows)), figure_labels(rows))
    for (line, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            light = "white" if value < 60 else "black"
            text = axis.text(column, line, f"{value:.0f}", ha="center", va="center", size=7)
            text.set_color(light)
            # The numbers lie inside the axes, so the layout need not measure them.
            text.set_in_layout(False)
    figure.colorbar(image, label="top-1 %")
    return figure


def steps(rows: Sequence[Row], new: NewFigure = Figure) -> Figure | None:
    """Draw top-1 after each step, and the oracle over the steps; None if no row iterates."""
    iterating = [row for row in rows if row.summary["step_top1"]]
    if not iterating:
        return None
    figure = new((WIDTH, 3.2), layout="constrained")
    axis = figure.subplots()
    for row, name, colour in zip(
        iterating, figure_labels(iterating), colours(len(iterating)), strict=True
    ):
        accuracies = row.summary["step_top1"]
        axis.plot(range(1, len(accuracies) + 1), accuracies, color=colour, marker=".", label=name)
        axis.axhline(row.summary["oracle_top1"], color=colour, linestyle=":", linewidth=1)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("step (dotted: oracle over the steps, an upper bound that sees labels)")
    axis.set_ylabel("top-1 %")
    legend(figure, axis, len(iterating))
    return figure


def calibration(rows: Sequence[Row], new: NewFigure = Figure) -> Figure | None:
    """Draw accuracy in each of 15 bins of confidence; calibrated methods lie on the diagonal."""
    figure = new((WIDTH, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 100], [0, 100], color="grey", linewidth=1, linestyle="--")
    for row, name, colour in zip(rows, figure_labels(rows), colours(len(rows)), strict=True):
        bins = _reliability(row)
        filled = bins[bins[:, 0] > 0]
        label = f"{name} (ECE {row.summary['ece']:.1f})"
        axis.plot(filled[:, 2], filled[:, 1], color=colour, marker=".", label=label)
    axis.set_xlabel(f"confidence, %, {BINS} bins")
    axis.set_ylabel("accuracy, %")
    legend(figure, axis, len(rows))
    return figure


def _reliability(row: Row) -> np.ndarray:
    """Return share, accuracy and mean confidence of each bin, over all seeds of a row."""
    # (seeds, bins, 3)
    bins = np.array([reliability(run.records) for run in row.runs])
    shares = bins[:, :, 0].sum(axis=0)
    # An empty bin of one seed has nan, which counts for nothing.
    summed = np.nansum(bins[:, :, :1] * bins[:, :, 1:], axis=0)
    with np.errstate(invalid="ignore"):
        return np.column_stack([shares, summed / shares[:, None]])


def streams(rows: Sequence[Row], new: NewFigure = Figure) -> Figure | None:
    """Draw the running top-1 along each stream, with the borders of the groups.

    A panel shows the online runs of one dataset and one kind of stream, and the episodic ones on
    the same samples in that order. None if no row is online.
    """
    panels: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.first.records.position is not None:
            summary = row.summary
            name = summary["dataset"], summary["stream"], summary["correlation"]
            panels.setdefault(name, []).append(row)
    if not panels:
        return None
    figure = new((WIDTH, 0.6 + 2.2 * len(panels)), layout="constrained")
    by_label = dict(zip(figure_labels(rows), colours(len(rows)), strict=True))
    for axis, ((dataset, stream, _), online) in zip(
        np.atleast_1d(figure.subplots(len(panels))), panels.items(), strict=True
    ):
        order = _order_along(online[0])
        episodic = [
            row
            for row in rows
            if row.first.records.position is None and row.summary["dataset"] == dataset
        ]
        for row, name in zip(rows, figure_labels(rows), strict=True):
            if any(row is one for one in online):
                axis.plot(*_running(row, _order_along(row)), color=by_label[name], label=name)
            elif any(row is one for one in episodic):
                line = _running(row, order)
                axis.plot(*line, color=by_label[name], label=name, linewidth=0.8, linestyle="--")
        groups = online[0].first.records.in_order_of(order).group
        if stream != "mixed":
            for border in (
                place for place in range(1, len(order)) if groups[place] != groups[place - 1]
            ):
                axis.axvline(border, color="grey", linewidth=0.4)
        axis.set_title(in_figure(f"{dataset}, {stream}"), size=8)
        axis.set_ylabel("running top-1 %")
        axis.set_xlabel("place in the stream (dashed: episodic methods on the same samples)")
    lines = {
        label: handle
        for axis in figure.axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=2, fontsize=7)
    return figure


def _order_along(row: Row) -> list[str]:
    """Return the ids of an online run's samples, one stream after another."""
    records = row.first.records
    places = np.concatenate(list(rows_by_stream(records).values()))
    return [records.sample_id[int(place)] for place in places]


def _running(row: Row, order: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return places in a stream, and the top-1 of the samples around each."""
    correct = row.first.records.in_order_of(order).correct.astype(float)
    window = max(1, len(correct) // WINDOWS)
    accuracy = 100 * np.convolve(correct, np.ones(window) / window, "valid")
    return np.arange(len(accuracy)) + window / 2, accuracy


FIGURES: dict[str, Draw] = {
    "differences": differences,
    "pareto": pareto,
    "sweeps": sweeps,
    "seeds": seeds,
    "corruptions": corruptions,
    "steps": steps,
    "calibration": calibration,
    "streams": streams,
}
