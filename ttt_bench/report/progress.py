"""Progress of runs on standard error: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from ttt_bench.engine.run import Run
from ttt_bench.hookspecs import hookimpl
from ttt_bench.records import Records
from ttt_bench.report.text import plain

SECONDS_BETWEEN_LINES = 5.0


class _RateColumn(TextColumn):
    def __init__(self) -> None:
        super().__init__("{task.fields[rate]}")


class Progress:
    """A plugin like any other: it listens to the runs of one command."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = (
            Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                _RateColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    @hookimpl
    def ttt_bench_run_started(self, run: Run) -> None:
        """Begin a bar, or say how much there is to do."""
        self._title = plain(f"{run.method} on {run.dataset}")
        self._total = len(run.plan.indices)
        self._done = self._before = run.finished
        self._started = self._said = time.monotonic()
        if self._bar:
            self._task = self._bar.add_task(
                self._title, total=self._total, completed=self._done, rate=""
            )
        elif self._done:
            self._say(f"continues with {self._done} of {self._total} samples there")
        else:
            self._say(f"{self._total} samples")

    @hookimpl
    def ttt_bench_chunk_finished(self, run: Run, records: Records) -> None:
        """Move the bar, or say every few seconds how far it is."""
        self._done += len(records)
        now = time.monotonic()
        rate = (self._done - self._before) / max(now - self._started, 1e-9)
        if self._bar:
            self._bar.update(self._task, completed=self._done, rate=f"{rate:.1f}/s")
        elif now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            left = (self._total - self._done) / rate
            self._say(f"{self._done}/{self._total} samples, {rate:.1f}/s, {left:.0f} s left")

    @hookimpl
    def ttt_bench_run_finished(self, run: Run, summary: dict[str, Any]) -> None:
        """Say how it came out."""
        if not self._bar:
            seconds = time.monotonic() - self._started
            self._say(f"done, top-1 {summary['top1']:.1f} %, {seconds:.1f} s")

    def _say(self, text: str) -> None:
        print(f"{self._title}: {text}", file=sys.stderr, flush=True)
