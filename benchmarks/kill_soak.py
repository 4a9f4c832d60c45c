"""Runs killed at random moments, continued, and compared with an undisturbed run.

`python benchmarks/kill_soak.py --kills N` starts runs of APM, kills each several times
and lets the same command finish it. Every third run has two worker processes. The last line is
JSON: the number of kills, of runs and of records, and how many records differ.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from ttt_bench.api.records import Records
from ttt_bench.cli import main
from ttt_bench.runs.folder import RunFolder

RUN = ["run", "-m", "apm", "-d", "cifar10-c-mini", "--device", "cpu", "--set", "steps=10"]
LIMIT = 960
KILLS_PER_RUN = 6


def start(output: Path, workers: int) -> int:
    """Start the run in a fork of this process, which has imported everything; return its id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    log = os.open(output.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    options = ["--limit", str(LIMIT), "--workers", str(workers), "-o", str(output)]
    try:
        main([*RUN, *options])
    except SystemExit as left:
        os._exit(int(left.code or 0))
    os._exit(1)


def finish(output: Path, workers: int) -> None:
    """Let the run finish."""
    _, status = os.waitpid(start(output, workers), 0)
    if os.waitstatus_to_exitcode(status):
        log = output.with_suffix(".log").read_text()
        sys.exit(f"{output}: the run failed\n{log[-2000:]}")


def kill_at_random(output: Path, workers: int, draw: random.Random, longest: float) -> bool:
    """Start the run and kill it at a random moment; return whether it was still running."""
    child = start(output, workers)
    time.sleep(draw.uniform(0, longest))
    finished, _ = os.waitpid(child, os.WNOHANG)
    if finished:
        return False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def records_of(output: Path) -> Records:
    """Read the records of the run."""
    return RunFolder(output / "cifar10-c-mini" / "apm").read_records()


def changed(one: Records, other: Records) -> int:
    """Count the samples whose records differ, the times aside."""
    same = (one.logits == other.logits).all(axis=1) & (one.prediction == other.prediction)
    if one.step_predictions is not None and other.step_predictions is not None:
        same &= (one.step_predictions == other.step_predictions).all(axis=1)
    names = [a == b for a, b in zip(one.sample_id, other.sample_id, strict=True)]
    return int((~same).sum()) + names.count(False)


def soak(kills: int, seed: int) -> dict[str, int]:
    """Kill runs until there were so many kills, and count what changed."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        finish(Path(folder) / "undisturbed", 1)
        longest = time.monotonic() - started
        expected = records_of(Path(folder) / "undisturbed")
        done = runs = different = 0
        while done < kills:
            workers = 2 if runs % 3 == 2 else 1
            output = Path(folder) / f"run{runs}"
            for _ in range(min(KILLS_PER_RUN, kills - done)):
                done += kill_at_random(output, workers, draw, longest / 3)
            finish(output, workers)
            different += changed(records_of(output), expected)
            runs += 1
            print(f"{done} kills, {runs} runs, {different} records changed", file=sys.stderr)
            shutil.rmtree(output)
    return {"kills": done, "runs": runs, "records": LIMIT * runs, "records_changed": different}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="how many kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    arguments = parser.parse_args()
    print(json.dumps(soak(arguments.kills, arguments.seed)))
