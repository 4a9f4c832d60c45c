"""The figures of each command, made of arrays."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ttt_bench_apm.analysis.costs import Cost
from ttt_bench_apm.analysis.drawing import DOTS, Chart, Panel, draw, on_grid
from ttt_bench_apm.analysis.islands import Islands


def islands_figures(
    islands: Islands,
    shades: Sequence[np.ndarray],
    colours: Sequence[np.ndarray],
    seen: np.ndarray,
    method: str,
    heading: str,
) -> tuple[Figure, list[Figure]]:
    """One figure of every field, and the frames of an animation, a field each.

    Args:
        shades: each field in one dimension, then the one without the image; `colours` in three
            (`reduce_fields`).
        seen: the image as the network gets it.
    """
    names = [f"after {step} step{'s' * (step != 1)}" for step in islands.steps]
    names.append("same weights, no image")
    loss = Panel("loss", chart=lambda axis: loss_curve(axis, islands, None))
    picture = Panel("input", seen)
    grey = [Panel(f"{n}, 1-D", on_grid(s)) for n, s in zip(names, shades, strict=True)]
    rgb = [Panel(f"{n}, 3-D", on_grid(c)) for n, c in zip(names, colours, strict=True)]
    frames = [
        draw(
            [[picture, one, three, Panel("loss", chart=_marked(islands, step))]],
            f"{method} of the feature field, {name} | {heading}",
        )
        for one, three, step, name in zip(grey, rgb, islands.steps, names, strict=False)
    ]
    return draw(
        [[picture, *grey], [loss, *rgb]], f"{method} of the feature field | {heading}"
    ), frames


def _marked(islands: Islands, step: int) -> Chart:
    return lambda axis: loss_curve(axis, islands, step)


def loss_curve(axis: Axes, islands: Islands, mark: int | None) -> None:
    """The loss over the steps, logarithmic, one step marked."""
    axis.plot(islands.losses, linewidth=1, color="black")
    if mark is not None:
        axis.plot(mark, islands.losses[mark], "o", color="crimson", markersize=4)
    axis.set_yscale("log")
    axis.set_xlabel("steps", fontsize=6)
    axis.set_ylabel("mean squared error", fontsize=6)
    axis.set_box_aspect(1)


def features_figure(
    photograph: np.ndarray,
    seen: np.ndarray,
    teacher: np.ndarray,
    answered: np.ndarray,
    error: np.ndarray,
    finer: np.ndarray,
    heading: str,
) -> Figure:
    """Teacher's grid and the network's in the same colours, where they differ, and a finer field.

    Args:
        teacher: colours of the teacher's patches, row by row, as `answered` and `finer` are of the
            network's answers.
        error: of each patch.
    """
    side, fine = (round(len(values) ** 0.5) for values in (teacher, finer))
    panels = [
        Panel("photograph", photograph),
        Panel(f"as the network sees it, {len(seen)}x{len(seen)}", seen),
        Panel(f"teacher, {side}x{side}", on_grid(teacher)),
        Panel(f"APM, {side}x{side}", on_grid(answered)),
        Panel(f"APM asked at {fine}x{fine}", on_grid(finer)),
        Panel("squared error", on_grid(error[:, None]), unit="mean over channels"),
    ]
    return draw([panels[:3], panels[3:]], heading)


def field_figure(
    photograph: np.ndarray, seen: np.ndarray, grids: Sequence[np.ndarray], heading: str
) -> Figure:
    """What the network answers on grids of several sizes, where there is no teacher."""
    panels = [
        Panel("photograph", photograph),
        Panel(f"as the network sees it, {len(seen)}x{len(seen)}", seen),
    ]
    for colours in grids:
        side = round(len(colours) ** 0.5)
        panels.append(Panel(f"APM, {side}x{side}", on_grid(colours)))
    return draw([panels], heading)


def reconstruction_figure(
    photograph: np.ndarray,
    seen: np.ndarray,
    wanted: np.ndarray,
    decoded: np.ndarray,
    error: np.ndarray,
    finer: np.ndarray,
    heading: str,
) -> Figure:
    """The image's mean colours, those decoded from the field, and where they differ."""
    side, fine = (round(len(values) ** 0.5) for values in (wanted, finer))
    panels = [
        Panel("photograph", photograph),
        Panel(f"as the network sees it, {len(seen)}x{len(seen)}", seen),
        Panel(f"its mean colours, {side}x{side}", on_grid(wanted)),
        Panel(f"decoded, {side}x{side}", on_grid(decoded)),
        Panel(f"decoded at {fine}x{fine}", on_grid(finer)),
        Panel("error", on_grid(error[:, None]), unit="root mean square"),
    ]
    return draw([panels[:3], panels[3:]], heading)


def interpolation_figures(
    ends: tuple[np.ndarray, np.ndarray],
    decoded: Sequence[np.ndarray],
    colours: Sequence[np.ndarray],
    shares: Sequence[float],
    heading: str,
    shown: int = 6,
) -> tuple[Figure, list[Figure]]:
    """A strip of some of the answers between two images, and the frames of an animation of all.

    Args:
        shares: how far each answer's trigger is on its way, from 0 to 1.
    """
    one, other = Panel("first input", ends[0]), Panel("second input", ends[1])
    rgb = [Panel(f"colours, {s:.2f}", on_grid(d)) for s, d in zip(shares, decoded, strict=True)]
    fields = [Panel(f"features, {s:.2f}", on_grid(c)) for s, c in zip(shares, colours, strict=True)]
    some = np.linspace(0, len(shares) - 1, min(shown, len(shares))).round().astype(int)
    strip = draw(
        [
            [one, *(rgb[place] for place in some), other],
            [None, *(fields[place] for place in some)],
        ],
        heading,
    )
    frames = [draw([[one, c, f, other]], heading) for c, f in zip(rgb, fields, strict=True)]
    return strip, frames


def points_figure(
    seen: np.ndarray,
    decoded: np.ndarray,
    points: Sequence[tuple[float, float]],
    similarities: Sequence[np.ndarray],
    heading: str,
) -> Figure:
    """Where an image was asked, and how alike every other location's feature is to each answer.

    Args:
        points: (y, x) as fractions of the square.
        similarities: cosines to the features of all locations, row by row, less the mean feature.
    """

    def marked(picture: np.ndarray, some: Sequence[int]) -> Chart:
        def chart(axis: Axes) -> None:
            axis.imshow(picture, cmap="coolwarm", vmin=-1, vmax=1, extent=(0, 1, 1, 0))
            for place in some:
                y, x = points[place]
                axis.plot(x, y, "o", color="white", markeredgecolor="black", markersize=9)
                axis.annotate(str(place + 1), (x, y), fontsize=6, ha="center", va="center")
            axis.set_xlabel("x", fontsize=6)
            axis.set_ylabel("y", fontsize=6)

        return chart

    every = range(len(points))
    panels = [
        Panel("input", chart=marked(seen, every)),
        Panel("decoded colours", chart=marked(on_grid(decoded), every)),
        *(
            Panel(f"cosine to point {place + 1}", chart=marked(on_grid(one[:, None]), [place]))
            for place, one in enumerate(similarities)
        ),
    ]
    return draw([panels[at : at + 5] for at in range(0, len(panels), 5)], heading)


def costs_figure(rows: Mapping[str, Sequence[Cost]], grid: str) -> Figure:
    """FLOPs, time and memory against patches per side; dashed where they are extrapolated."""
    figure = Figure((8.5, 3), dpi=DOTS, layout="constrained")
    axes = figure.subplots(1, 3)
    labels = ("GFLOPs, forward", "seconds", "MB, peak")
    for axis, label, name in zip(axes, labels, ("gflops", "seconds", "megabytes"), strict=True):
        for place, (who, costs) in enumerate(rows.items()):
            run = [cost for cost in costs if cost.seconds is not None]
            colour = f"C{place}"
            axis.plot(
                [c.side for c in run], [getattr(c, name) for c in run], "o-",
                color=colour, markersize=3, label=who,
            )  # fmt: skip
            if name == "gflops" and len(run) < len(costs):
                rest = costs[len(run) - 1 :]
                axis.plot(
                    [c.side for c in rest], [c.gflops for c in rest], "--",
                    color=colour, label=f"{who}, extrapolated",
                )  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        sides = [cost.side for cost in next(iter(rows.values()))]
        axis.set_xticks(sides, [str(side) for side in sides])
        axis.set_xlabel("patches per side", fontsize=8)
        axis.set_ylabel(label, fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].legend(fontsize=6)
    figure.suptitle(
        f"Cost of one image against queried patches (APM's own grid: {grid})", fontsize=9
    )
    return figure
