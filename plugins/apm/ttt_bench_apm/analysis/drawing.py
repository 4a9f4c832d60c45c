"""Figures and animations: panels in rows, each with a title that says what it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ttt_bench import UserError

PANEL = 1.75
DOTS = 110
# A GIF is no compact format.
FRAME_DOTS = 80

Chart = Callable[[Axes], None]


@dataclass(frozen=True)
class Panel:
    """A picture or a small chart.

    Attributes:
        title: what it is.
        pixels: `[rows columns]` as shades or `[rows columns 3]` as colours, in [0, 1]; or values of
            any range when `unit` names it, drawn with a scale beside them.
        unit: of the values.
        chart: draws on axes, instead of pixels.
        limit: the value at the scale's upper end, instead of the largest.
    """

    title: str
    pixels: np.ndarray | None = None
    unit: str = ""
    chart: Chart | None = None
    limit: float | None = None


def draw(rows: Sequence[Sequence[Panel | None]], heading: str) -> Figure:
    """A figure of panels; None leaves a place empty."""
    columns = max(len(row) for row in rows)
    size = (PANEL * columns + 0.2, (PANEL + 0.2) * len(rows) + 0.4)
    figure = Figure(size, dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(fill(heading, int(16 * size[0])), fontsize=8)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis, panel in zip(line, [*row, *[None] * (columns - len(row))], strict=True):
            if panel is None:
                axis.axis("off")
            else:
                _fill(figure, axis, panel)
    return figure


def _fill(figure: Figure, axis: Axes, panel: Panel) -> None:
    axis.set_title(panel.title, fontsize=7)
    if panel.chart is not None:
        panel.chart(axis)
        axis.tick_params(labelsize=6)
        return
    axis.set_xticks([])
    axis.set_yticks([])
    assert panel.pixels is not None
    if panel.unit:
        shown = axis.imshow(panel.pixels, cmap="magma", vmin=0, vmax=panel.limit)
        scale = figure.colorbar(shown, ax=axis, fraction=0.05)
        scale.ax.tick_params(labelsize=6)
        scale.set_label(panel.unit, fontsize=6)
    else:
        axis.imshow(panel.pixels, cmap="grey", vmin=0, vmax=1, interpolation="nearest")


def on_grid(values: np.ndarray) -> np.ndarray:
    """Values of a square's locations, row by row, as rows and columns."""
    side = round(len(values) ** 0.5)
    shaped = values.reshape(side, side, -1)
    return shaped[..., 0] if shaped.shape[2] == 1 else shaped


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure in the format that the file's name says.

    Raises:
        UserError: it cannot be written.
    """
    return _written(path, lambda: figure.savefig(path, dpi=DOTS))


def save_animation(figures: Sequence[Figure], path: Path, milliseconds: int = 500) -> Path:
    """Write figures of one size as a GIF that starts over.

    Raises:
        UserError: it cannot be written.
    """
    frames = []
    for figure in figures:
        buffer = BytesIO()
        figure.savefig(buffer, dpi=FRAME_DOTS, format="png")
        frame = Image.open(buffer).convert("RGB")
        frames.append(frame.quantize(96, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))
    first, rest = frames[0], frames[1:]
    times = [milliseconds] * (len(frames) - 1) + [3 * milliseconds]
    return _written(
        path,
        lambda: first.save(path, save_all=True, append_images=rest, duration=times, loop=0),
    )


def _written(path: Path, write: Callable[[], Any]) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); give another -o") from error
    return path
