"""A tracker that appends a line to a file for everything that it is told."""

import json
from pathlib import Path
from typing import Any

from ttt_bench import Records, Run, hookimpl

FILE = Path("tracker.jsonl")


def note(**values: Any) -> None:
    """Append a JSON object as a line."""
    with FILE.open("a", encoding="utf-8") as file:
        print(json.dumps(values), file=file)


@hookimpl
def ttt_bench_run_started(run: Run) -> None:
    """Note how much of the run earlier commands have saved, and its protocol card."""
    note(event="started", run=run.path, method=run.method, finished=run.finished, card=run.card)


@hookimpl
def ttt_bench_chunk_finished(run: Run, records: Records) -> None:
    """Note the accuracy of the samples of a chunk."""
    accuracy = 100 * float(records.correct.mean())
    note(event="chunk", run=run.path, samples=len(records), accuracy=accuracy)


@hookimpl
def ttt_bench_run_finished(run: Run, summary: dict[str, Any]) -> None:
    """Note the summary: accuracy, metrics and cost."""
    note(event="finished", run=run.path, n=run.n, summary=summary)
