"""The figures of the commands, made of arrays."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ttt_bench_apm.analysis.costs import Cost
from ttt_bench_apm.analysis.drawing import DPI, Chart, Panel, draw, on_grid
from ttt_bench_apm.analysis.islands import Islands
from ttt_bench_apm.self_supervised.photograph import Photograph

# Values of any number of locations, row by row of their grid.
Colours = Float[np.ndarray, "_ 3"]
Shades = Float[np.ndarray, "_ 1"]
Errors = Float[np.ndarray, " _"]
Pixels = Float[np.ndarray, "rows columns 3"]

PANELS_PER_ROW = 5
STRIP_PANELS = 6


def islands_figures(
    islands: Islands,
    shades: Sequence[Shades],
    colours: Sequence[Colours],
    network_input: Pixels,
    method: str,
    heading: str,
) -> tuple[Figure, list[Figure]]:
    """Draw one figure of every field, and the frames of an animation, a field each.

    Args:
        islands: the training.
        shades: each field in one dimension, then the field without the image.
        colours: the same in three dimensions.
        network_input: the image as the network sees it.
        method: the name of the reduction.
        heading: what the figures are of.
    """
    names = [f"after {step} step{'s' * (step != 1)}" for step in islands.steps]
    names.append("same weights, no image")
    picture = Panel("input", network_input)
    shade_panels = [Panel(f"{n}, 1-D", on_grid(s)) for n, s in zip(names, shades, strict=True)]
    colour_panels = [Panel(f"{n}, 3-D", on_grid(c)) for n, c in zip(names, colours, strict=True)]
    whole = draw(
        [
            [picture, *shade_panels],
            [Panel("loss", chart=_loss_curve(islands, None)), *colour_panels],
        ],
        f"{method} of the feature field | {heading}",
    )
    frames = [
        draw(
            [[picture, shade, colour, Panel("loss", chart=_loss_curve(islands, step))]],
            f"{method} of the feature field, {name} | {heading}",
        )
        for shade, colour, step, name in zip(
            shade_panels, colour_panels, islands.steps, names, strict=False
        )
    ]
    return whole, frames


def _loss_curve(islands: Islands, marked: int | None) -> Chart:
    """Return a chart of the loss over the steps, logarithmic, with one step marked."""

    def chart(axis: Axes) -> None:
        axis.plot(islands.losses, linewidth=1, color="black")
        if marked is not None:
            axis.plot(marked, islands.losses[marked], "o", color="crimson", markersize=4)
        axis.set_yscale("log")
        axis.set_xlabel("steps", fontsize=6)
        axis.set_ylabel("mean squared error", fontsize=6)
        axis.set_box_aspect(1)

    return chart


def photograph_figure(photograph: Photograph, panels: Sequence[Panel], heading: str) -> Figure:
    """Draw a photograph, the network's input, and what was computed from it.

    Args:
        photograph: the photograph before its network.
        panels: the panels after these two.
        heading: the title of the figure.
    """
    side = len(photograph.input_display)
    every = [
        Panel("photograph", photograph.display),
        Panel(f"as the network sees it, {side}x{side}", photograph.input_display),
        *panels,
    ]
    columns = math.ceil(math.sqrt(len(every)))
    return draw(_rows(every, columns), heading)


def grid_panel(title: str, colours: Colours) -> Panel:
    """Return a panel of a square grid, its title followed by the grid's size."""
    side = round(len(colours) ** 0.5)
    return Panel(f"{title} {side}x{side}", on_grid(colours))


def error_panel(title: str, errors: Errors, unit: str) -> Panel:
    """Return a panel of the error at every location of a square grid."""
    return Panel(title, on_grid(errors[:, None]), unit=unit)


def _rows(panels: Sequence[Panel], columns: int) -> list[Sequence[Panel]]:
    return [panels[start : start + columns] for start in range(0, len(panels), columns)]


def interpolation_figures(
    inputs: tuple[Pixels, Pixels],
    decoded: Sequence[Colours],
    features: Sequence[Colours],
    heading: str,
) -> tuple[Figure, list[Figure]]:
    """Draw a strip of some of the fields between two images, and the frames of an animation of all.

    Args:
        inputs: both images as the network sees them.
        decoded: colours decoded at each step, from the first image to the second.
        features: colours of the features at each step.
        heading: the title of the figures.
    """
    first, second = Panel("first input", inputs[0]), Panel("second input", inputs[1])
    shares = np.linspace(0, 1, len(decoded))
    decoded_panels = [
        Panel(f"colours, {s:.2f}", on_grid(c)) for s, c in zip(shares, decoded, strict=True)
    ]
    feature_panels = [
        Panel(f"features, {s:.2f}", on_grid(c)) for s, c in zip(shares, features, strict=True)
    ]
    last = len(shares) - 1
    chosen = np.linspace(0, last, min(STRIP_PANELS, last + 1)).round().astype(int)
    strip = draw(
        [
            [first, *(decoded_panels[step] for step in chosen), second],
            [None, *(feature_panels[step] for step in chosen)],
        ],
        heading,
    )
    frames = [
        draw([[first, colours, field, second]], heading)
        for colours, field in zip(decoded_panels, feature_panels, strict=True)
    ]
    return strip, frames


def points_figure(
    network_input: Pixels,
    decoded: Colours,
    points: Sequence[tuple[float, float]],
    similarities: Sequence[Float[np.ndarray, " locations"]],
    heading: str,
) -> Figure:
    """Draw the queried points, and how similar all other locations are to each of them.

    Args:
        network_input: the image as the network sees it.
        decoded: the colours decoded at all locations.
        points: (y, x) as fractions of the square.
        similarities: for each point, cosines to the features of all locations.
        heading: the title of the figure.
    """

    def marked(picture: np.ndarray, numbers: Sequence[int]) -> Chart:
        def chart(axis: Axes) -> None:
            axis.imshow(picture, cmap="coolwarm", vmin=-1, vmax=1, extent=(0, 1, 1, 0))
            for number in numbers:
                y, x = points[number]
                axis.plot(x, y, "o", color="white", markeredgecolor="black", markersize=9)
                axis.annotate(str(number + 1), (x, y), fontsize=6, ha="center", va="center")
            axis.set_xlabel("x", fontsize=6)
            axis.set_ylabel("y", fontsize=6)

        return chart

    numbers = range(len(points))
    panels = [
        Panel("input", chart=marked(network_input, numbers)),
        Panel("decoded colours", chart=marked(on_grid(decoded), numbers)),
    ]
    for number, cosines in enumerate(similarities):
        chart = marked(on_grid(cosines[:, None]), [number])
        panels.append(Panel(f"cosine to point {number + 1}", chart=chart))
    return draw(_rows(panels, PANELS_PER_ROW), heading)


def costs_figure(costs_by_model: Mapping[str, Sequence[Cost]], grid: int) -> Figure:
    """Draw FLOPs, time and memory against patches per side, dashed where extrapolated.

    Args:
        costs_by_model: the costs of each model, in rising order of sides.
        grid: cells per side of APM's own grid, for the title.
    """
    figure = Figure((8.5, 3), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 3)
    labels = {"gflops": "GFLOPs, forward", "seconds": "seconds", "megabytes": "MB, peak"}
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        for number, (model, costs) in enumerate(costs_by_model.items()):
            colour = f"C{number}"
            measured = [cost for cost in costs if cost.seconds is not None]
            sides, values = zip(*((c.side, getattr(c, name)) for c in measured), strict=True)
            axis.plot(sides, values, "o-", color=colour, markersize=3, label=model)
            if name == "gflops" and len(measured) < len(costs):
                rest = costs[len(measured) - 1 :]
                sides, values = [c.side for c in rest], [c.gflops for c in rest]
                axis.plot(sides, values, "--", color=colour, label=f"{model}, extrapolated")
        _log_axes(axis, [cost.side for cost in next(iter(costs_by_model.values()))])
        axis.set_ylabel(label, fontsize=8)
    axes[0].legend(fontsize=6)
    figure.suptitle(
        f"Cost of one image against queried patches (APM's own grid: {grid})", fontsize=9
    )
    return figure


def _log_axes(axis: Axes, sides: list[int]) -> None:
    """Set both axes to a logarithmic scale, with patches per side below."""
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xticks(sides, [str(side) for side in sides])
    axis.set_xlabel("patches per side", fontsize=8)
    axis.tick_params(labelsize=7)
