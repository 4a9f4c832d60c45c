"""Progress on standard error: a bar on a terminal, a plain line every few seconds elsewhere.

In a notebook it is a line for each run in the output of the cell, which changes as the run goes on.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

from ttt_bench.api.events import Run
from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.api.records import Records
from ttt_bench.api.text import plain
from ttt_bench.registry import registry

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_CHANGES = 0.2
# Room for the words beside a bar, with the spaces around them; a narrow terminal has no bar.
LONGEST_TEXT = 36
SHORTEST_BAR, LONGEST_BAR = 5, 40


class ProgressBar:
    """How far one thing is.

    Attributes:
        done: how much of it is done.
        total: all of it, None where nobody knows.
    """

    def __init__(
        self,
        title: str,
        describe: Callable[["ProgressBar"], str],
        cell: "CellOutput | None" = None,
    ) -> None:
        """Begin at nothing done.

        Args:
            title: what is in progress.
            describe: says in words how far it is.
            cell: the output of a notebook's cell, None outside of notebooks.
        """
        self._cell = cell
        self._title = plain(title)
        self._describe = describe
        self._started = self._printed = time.monotonic()
        self._before = self.done = 0
        self.total: int | None = None
        console = Console(stderr=True)
        columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)]
        room = console.width - cell_len(self._title) - LONGEST_TEXT
        if room >= SHORTEST_BAR:
            columns.append(BarColumn(bar_width=min(room, LONGEST_BAR)))
        columns.append(TextColumn("{task.fields[text]}", markup=False))
        self._bar = Progress(
            *columns,
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(self._title, total=None, text="")

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    @property
    def rate(self) -> float:
        """How much was done per second since the start."""
        return (self.done - self._before) / max(self.seconds, 1e-9)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def start_at(self, done: int, total: int | None) -> None:
        """Say how much was done before."""
        self._before = self.done = done
        self.total = total

    def update(self, done: int, total: int | None = None) -> None:
        """Move the bar, or print a line every few seconds."""
        self.done, self.total = done, total
        self._bar.update(self._task, completed=done, total=total, text=self._describe(self))
        now = time.monotonic()
        pause = SECONDS_BETWEEN_CHANGES if self._cell else SECONDS_BETWEEN_LINES
        if self._bar.disable and now - self._printed >= pause:
            self._printed = now
            self.print(self._describe(self))

    def print(self, text: str) -> None:
        """Print a line, where there is no bar."""
        if not self._bar.disable:
            return
        if self._cell is not None:
            self._cell.write(f"{self._title}: {text}")
        else:
            print(f"{self._title}: {text}", file=sys.stderr, flush=True)


class CellOutput:
    """Lines in the output of a notebook's cell, of which the last one may change."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._display: Any = None

    def begin_line(self) -> None:
        """Keep the lines so far, and begin another one."""
        self._lines.append("")

    def write(self, text: str) -> None:
        """Put a text in the place of the last line."""
        self._lines[-1] = text
        content = {"text/plain": "\n".join(self._lines)}
        if self._display is not None:
            self._display.update(content, raw=True)
            return
        from IPython.display import display

        self._display = display(content, raw=True, display_id=True)


class RunProgress:
    """A plugin like any other: it listens to the runs of one command."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None
        self._cell = CellOutput() if Console().is_jupyter else None

    def __enter__(self) -> "RunProgress":
        registry().manager.register(self, name="progress")
        return self

    def __exit__(self, *error: object) -> None:
        registry().manager.unregister(self)
        self._close()

    def _close(self) -> None:
        if self._bar:
            self._bar.__exit__()
            self._bar = None

    @hookimpl
    def ttt_bench_run_started(self, run: Run) -> None:
        """Begin a bar, or say how much there is to do."""
        self._close()
        if self._cell is not None:
            self._cell.begin_line()
        title = f"{run.title} on {run.dataset}"
        self._bar = ProgressBar(title, _samples, self._cell).__enter__()
        self._bar.start_at(run.finished, run.n)
        self._bar.print(
            f"continues with {run.finished} of {run.n} samples there"
            if run.finished
            else f"{run.n} samples"
        )

    @hookimpl
    def ttt_bench_chunk_finished(self, run: Run, records: Records) -> None:
        """Move the bar."""
        if self._bar:
            self._bar.update(self._bar.done + len(records), run.n)

    @hookimpl
    def ttt_bench_run_finished(self, run: Run, summary: dict[str, Any]) -> None:
        """Say how it came out."""
        if self._bar:
            self._bar.print(f"done, top-1 {summary['top1']:.1f} %, {self._bar.seconds:.1f} s")
        self._close()


def _samples(bar: ProgressBar) -> str:
    left = ((bar.total or 0) - bar.done) / max(bar.rate, 1e-9)
    time_words = f"{left:.0f} s left" if left else f"{bar.seconds:.0f} s"
    return f"{bar.done}/{bar.total}, {bar.rate:.1f}/s, {time_words}"
