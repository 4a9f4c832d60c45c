"""A tracker that appends a line to a file for everything that it is told."""

import json
from pathlib import Path
from typing import Any

from ttt_bench import Records, Run, Tracker, TrackerSpec, hookimpl

FILE = Path("tracker.jsonl")


class LineTracker(Tracker):
    """Notes runs in a file; the accuracy so far counts the samples of earlier commands."""

    def __init__(self) -> None:
        self._samples = self._correct = 0

    def run_started(self, run: Run) -> None:
        """Note how much of the run earlier commands have saved, and its protocol card."""
        self._samples, self._correct = run.finished, run.correct
        note(event="started", run=run.path, method=run.method, finished=run.finished, card=run.card)

    def chunk_finished(self, run: Run, records: Records) -> None:
        """Note the accuracy of all samples so far."""
        self._samples += len(records)
        self._correct += int(records.correct.sum())
        accuracy = 100 * self._correct / self._samples
        note(event="chunk", run=run.path, samples=self._samples, accuracy=accuracy)

    def run_finished(self, run: Run, summary: dict[str, Any]) -> None:
        """Note the summary: accuracy, metrics and cost."""
        note(event="finished", run=run.path, n=run.n, summary=summary)

    def run_stopped(self, run: Run) -> None:
        """Note that the command ends before the run does."""
        note(event="stopped", run=run.path, samples=self._samples)


def note(**values: Any) -> None:
    """Append a JSON object as a line."""
    with FILE.open("a", encoding="utf-8") as file:
        print(json.dumps(values), file=file)


@hookimpl
def ttt_bench_trackers() -> list[TrackerSpec]:
    """Return the tracker."""
    return [
        TrackerSpec(
            name="lines", summary="a line of JSON for every event", code="line_tracker:LineTracker"
        )
    ]
