"""Progress of a download on standard error: a bar on a terminal, plain lines elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 5.0


class Transfer:
    """Shows how far one file is; called with the bytes there and the bytes of the whole."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._said = 0.0
        console = Console(stderr=True)
        self._bar = (
            Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            if console.is_terminal
            else None
        )
        self._task = self._bar.add_task(title, total=None) if self._bar else None

    def __enter__(self) -> "Transfer":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, have: int, total: int | None) -> None:
        """Move the bar, or say every few seconds, and at the end, how far the file is."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=have, total=total)
            return
        now = time.monotonic()
        if have == total or now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            whole = f" of {total / 1e6:.1f}" if total else ""
            print(f"{self._title}: {have / 1e6:.1f}{whole} MB", file=sys.stderr, flush=True)
