"""Figures of rows against one another: differences to the baseline, seeds, sweeps."""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from ttt_bench.compare.labels import method_fields
from ttt_bench.compare.rows import Row, is_number
from ttt_bench.compare.statistics import LEVEL
from ttt_bench.report.palette import (
    NewFigure,
    colours,
    figure_labels,
    in_figure,
    markers,
    titled,
)

# Width of a text column, in inches; labels stay readable at it.
WIDTH = 6.5
LINE = 0.26


def differences(rows: Sequence[Row], new: NewFigure = Figure) -> Figure | None:
    """Draw the differences to the baseline with their 95 % intervals; None without a baseline.

    Filled marks are more than noise.
    """
    compared = [row for row in rows if (row.summary.get("baseline") or {}).get("ci95")]
    if not compared:
        return None
    figure = new((WIDTH, 1.0 + LINE * len(compared)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color="grey", linewidth=1)
    for place, row in enumerate(compared):
        one = row.summary["baseline"]
        low, high = one["ci95"]
        clear = one["p_holm"] < LEVEL
        axis.plot([low, high], [place, place], color="#0072b2", linewidth=1.5)
        (mark,) = axis.plot(
            [one["difference"]], [place], color="#0072b2", marker="o", markersize=6,
            markerfacecolor="#0072b2" if clear else "white", linestyle="none",
        )  # fmt: skip
        titled(
            mark,
            f"{row.label} less {one['name']}: {one['difference']:+.1f} [{low:+.1f}, {high:+.1f}], "
            f"p (Holm) {one['p_holm']:.2g}",
        )
    axis.set_yticks(range(len(compared)), figure_labels(compared))
    axis.set_ylim(len(compared) - 0.5, -0.5)
    names = {row.summary["baseline"]["name"] for row in compared}
    to = in_figure(names.pop()) if len(names) == 1 else "the row's baseline"
    axis.set_xlabel(f"top-1 less that of {to}, points (filled: more than noise)")
    return figure


def seeds(rows: Sequence[Row], new: NewFigure = Figure) -> Figure | None:
    """Draw the top-1 of each seed with mean and standard deviation; None without several seeds."""
    several = [row for row in rows if len(row.runs) > 1]
    if not several:
        return None
    figure = new((WIDTH, 1.0 + LINE * len(several)), layout="constrained")
    axis = figure.subplots()
    for place, (row, colour) in enumerate(zip(several, colours(len(several)), strict=True)):
        mean, spread = row.summary["top1"], row.summary["sd"]["top1"]
        axis.plot([mean - spread, mean + spread], [place, place], color=colour, linewidth=4,
                  alpha=0.35, solid_capstyle="butt")  # fmt: skip
        (mark,) = axis.plot([mean], [place], color=colour, marker="|", markersize=14)
        titled(mark, f"{row.label}: mean {mean:.1f}, standard deviation {spread:.1f}")
        for run in row.runs:
            seed, top1 = run.card.protocol["seed"], run.summary["top1"]
            (point,) = axis.plot([top1], [place], color=colour, marker="o", markersize=5,
                                 markerfacecolor="none", linestyle="none")  # fmt: skip
            titled(point, f"{row.label}, seed {seed}: {top1:.1f}")
    axis.set_yticks(range(len(several)), figure_labels(several))
    axis.set_ylim(len(several) - 0.5, -0.5)
    axis.set_xlabel("top-1 % of each seed (line: mean; bar: standard deviation)")
    return figure


def sweeps(rows: Sequence[Row], new: NewFigure = Figure) -> Figure | None:
    """Draw top-1 and time over each field of a configuration that was swept; None without one."""
    curves = list(_curves(rows))
    if not curves:
        return None
    fields = list(dict.fromkeys((method, field) for method, field, _, _ in curves))
    figure = new((WIDTH, 0.7 + 2.2 * len(fields)), layout="constrained")
    panels = figure.subplots(len(fields), 2, squeeze=False)
    for (method, field), (accuracy, cost) in zip(fields, panels, strict=True):
        mine = [one for one in curves if one[:2] == (method, field)]
        styles = zip(mine, colours(len(mine)), markers(len(mine)), strict=True)
        for (_, _, name, points), colour, marker in styles:
            values = [value for value, _ in points]
            style = {"color": colour, "marker": marker, "markersize": 4, "label": in_figure(name)}
            intervals = [row.summary["ci95"] for _, row in points]
            accuracy.fill_between(values, *zip(*intervals, strict=True), color=colour, alpha=0.15)
            accuracy.plot(values, [row.summary["top1"] for _, row in points], **style)
            times = [row.summary["cost"]["ms_per_sample"] for _, row in points]
            cost.plot(values, times, **style)
        for axis, label in ((accuracy, "top-1 %"), (cost, "ms per sample")):
            axis.set_xlabel(in_figure(f"{method}, {field}"))
            axis.set_ylabel(label)
            xs = sorted({value for one in mine for value, _ in one[3]})
            if xs[0] > 0 and xs[-1] / xs[0] >= 8:
                axis.set_xscale("log")
                axis.minorticks_off()
            axis.set_xticks(xs, [f"{value:g}" for value in xs])
        if len(mine) > 1:
            accuracy.legend(fontsize=7)
    return figure


def _curves(rows: Sequence[Row]) -> Iterator[tuple[str, str, str, list[tuple[float, Row]]]]:
    """Yield method, field, what the other fields are, and the rows over the field's values."""
    for base in dict.fromkeys(row.first.name for row in rows):
        some = [row for row in rows if row.first.name == base]
        configs = [row.first.card.method["config"] for row in some]
        for field in configs[0]:
            if not all(is_number(config.get(field)) for config in configs):
                continue
            series: dict[str, list[tuple[float, Row]]] = {}
            for row, config in zip(some, configs, strict=True):
                others = method_fields(row.first.card)
                others.pop(f"config.{field}")
                series.setdefault(str(others), []).append((float(config[field]), row))
            for points in series.values():
                if len({value for value, _ in points}) == len(points) > 1:
                    yield base, field, _name(points[0][1], field), sorted(points, key=_value)


def _value(point: tuple[float, Row]) -> float:
    return point[0]


def _name(row: Row, field: str) -> str:
    """Return a row's label without a field."""
    return " ".join(word for word in row.label.split() if not word.startswith(f"{field}="))
