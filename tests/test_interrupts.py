"""Ctrl-C is never lost, and workers end with their parent, however it ends."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ttt_bench.toolkit import interrupt

RUN = ("run", "-m", "apm", "-d", "cifar10-c-mini", "--set", "steps=60", "--device", "cpu")


@contextmanager
def running(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run in a process group of its own, and end all of it afterwards, always."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ttt_bench", *RUN, *options],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for_line(process: subprocess.Popen[str]) -> None:
    """Wait until the run has begun: its first line on standard error."""
    assert process.stderr is not None
    assert "samples" in process.stderr.readline()


def computing(group: int) -> list[int]:
    """Return the processes of a group that are not zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def test_the_first_signal_raises_and_sets_a_flag_the_second_ends_at_once(monkeypatch):
    left: list[int] = []
    monkeypatch.setattr(interrupt.os, "_exit", left.append)
    with interrupt.interruptible():
        interrupt.check_interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        # Swallowed there, it is raised again at the next look.
        with pytest.raises(KeyboardInterrupt):
            interrupt.check_interrupted()
        assert left == []
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert left == [130]
    # The flag is the command's: it ends with it.
    interrupt.check_interrupted()


def test_a_signal_inside_a_finalizer_is_not_lost():
    class Finalized:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with interrupt.interruptible():
        # Python swallows what a finalizer raises.
        Finalized()
        with pytest.raises(KeyboardInterrupt):
            interrupt.check_interrupted()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_at_any_moment_ends_the_run_with_130(tmp_path: Path, workers: str):
    draw = random.Random(int(workers))
    for attempt in range(3):
        with running(tmp_path, "--workers", workers, "-o", f"r{attempt}") as process:
            wait_for_line(process)
            try:
                process.wait(timeout=draw.uniform(0, 3))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
            _, err = process.communicate()
            assert process.returncode == 130, err
            assert err.splitlines()[-1].startswith("ttt-bench: interrupted")
            assert "Traceback" not in err


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, end: signal.Signals):
    with running(tmp_path, "--workers", "2", "-o", "r") as process:
        wait_for_line(process)
        chunk = tmp_path / "r" / "cifar10-c-mini" / "apm" / "cost.json"
        while not chunk.exists() or len(computing(process.pid)) < 3:
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(end)
        process.wait()
        # The pipes of standard output are held by every process that is left.
        process.communicate()
        while computing(process.pid):
            os.sched_yield()
