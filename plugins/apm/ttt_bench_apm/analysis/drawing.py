"""Drawing: figures of panels in rows, and animations made of figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ttt_bench import UserError, atomic_write

PANEL_INCHES = 1.75
DPI = 110
# GIF compresses little.
ANIMATION_DPI = 80

Chart = Callable[[Axes], None]


@dataclass(frozen=True)
class Panel:
    """A picture or a small chart.

    Attributes:
        title: the line above it.
        pixels: `[rows columns]` shades or `[rows columns 3]` colours, in [0, 1]; with `unit`,
            values of any range.
        unit: the unit of the values, drawn with a scale beside them; "" for shades and colours.
        chart: draws on axes, in place of pixels.
    """

    title: str
    pixels: np.ndarray | None = None
    unit: str = ""
    chart: Chart | None = None


def draw(rows: Sequence[Sequence[Panel | None]], heading: str) -> Figure:
    """Draw a figure of panels.

    Args:
        rows: the panels of each row; None leaves a gap.
        heading: the title of the figure.
    """
    columns = max(len(row) for row in rows)
    size = (PANEL_INCHES * columns + 0.2, (PANEL_INCHES + 0.2) * len(rows) + 0.4)
    figure = Figure(size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(fill(heading, int(16 * size[0])), fontsize=8)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row_axes, row in zip(axes, rows, strict=True):
        for axis, panel in zip(row_axes, [*row, *[None] * (columns - len(row))], strict=True):
            if panel is None:
                axis.axis("off")
            else:
                _draw_panel(figure, axis, panel)
    return figure


def _draw_panel(figure: Figure, axis: Axes, panel: Panel) -> None:
    axis.set_title(panel.title, fontsize=7)
    if panel.chart is not None:
        panel.chart(axis)
        axis.tick_params(labelsize=6)
        return
    axis.set_xticks([])
    axis.set_yticks([])
    assert panel.pixels is not None
    if panel.unit:
        picture = axis.imshow(panel.pixels, cmap="magma", vmin=0)
        scale = figure.colorbar(picture, ax=axis, fraction=0.05)
        scale.ax.tick_params(labelsize=6)
        scale.set_label(panel.unit, fontsize=6)
    else:
        axis.imshow(panel.pixels, cmap="grey", vmin=0, vmax=1, interpolation="nearest")


def on_grid(values: np.ndarray) -> np.ndarray:
    """Arrange the values of a square's locations, row by row, as rows and columns."""
    side = round(len(values) ** 0.5)
    pixels = values.reshape(side, side, -1)  # (L, channels) -> (side, side, channels)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure, in the format that the file's name ends with, and return its path.

    Raises:
        UserError: the file cannot be written.
    """
    return write_file(
        path, lambda file: figure.savefig(file, dpi=DPI, format=path.suffix.removeprefix("."))
    )


def save_animation(figures: Sequence[Figure], path: Path, milliseconds: int) -> Path:
    """Write figures of one size as a GIF that repeats, and return its path.

    Args:
        figures: the frames.
        path: the file.
        milliseconds: how long each frame stays; the last stays three times as long.

    Raises:
        UserError: the file cannot be written.
    """
    frames = []
    for figure in figures:
        buffer = BytesIO()
        figure.savefig(buffer, dpi=ANIMATION_DPI, format="png")
        frame = Image.open(buffer).convert("RGB")
        frames.append(frame.quantize(96, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))
    durations = [milliseconds] * (len(frames) - 1) + [3 * milliseconds]
    return write_file(
        path,
        lambda file: frames[0].save(
            file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
        ),
    )


def write_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a result of a command whole or not at all, and return its path.

    Args:
        path: the file; its folder is made.
        write: writes to the path that it is given.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with atomic_write(path) as temporary:
            write(temporary)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); give another -o") from error
    return path
