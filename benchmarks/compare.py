"""Seconds and peak memory of `compare` and `report` on many runs, made for it.

    python benchmarks/compare.py

Every command runs in a process of its own on the same folders: synthetic runs of one table, with
drawn predictions of ImageNet-C's size and shape. Prints JSON.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ttt_bench.api.records import Records
from ttt_bench.datasets.corruptions import SHORT_NAMES
from ttt_bench.runs.card import SCORING_RULE, Card, samples_digest
from ttt_bench.runs.folder import RunFolder

CHUNK = 32
DIRECTIONS = {"forward": 1e9, "backward": 2e9}


def write_run(path: Path, method: str, samples: int, classes: int, steps: int, seed: int) -> None:
    """Write one finished run: its manifest, chunks and costs."""
    draws = np.random.default_rng(seed)
    ids = [f"{number:016x}" for number in range(samples)]
    chunks = range(0, samples, CHUNK)
    card = Card(protocol_part(ids, classes), method_part(method, steps, len(chunks)))
    worker = {
        "method": method, "config": {"steps": steps}, "dataset": "imagefolder:photos",
        "backbone": "tiny-clip", "data_root": None, "weights": None, "seed": 0,
    }  # fmt: skip
    folder = RunFolder(path)
    folder.begin(
        card,
        {
            "samples": samples,
            "worker": worker,
            "environment": {},
            "harness": {"version": "0", "code": "0"},
            "code_files": {},
        },
    )
    labels = np.random.default_rng(0).integers(0, classes, samples)
    names = list(SHORT_NAMES)
    for number, start in enumerate(chunks):
        inside = slice(start, start + CHUNK)
        label = labels[inside]
        logits = draws.normal(size=(len(label), classes)).astype(np.float32)
        right = draws.random(len(label)) < 0.6
        logits[np.arange(len(label)), label] += 12 * right
        over_steps = draws.integers(0, classes, (len(label), steps))
        over_steps[:, -1] = logits.argmax(axis=1)
        records = Records(
            sample_id=ids[inside],
            group=[names[index % len(names)] for index in range(start, start + len(label))],
            label=label,
            prediction=logits.argmax(axis=1),
            confidence=draws.random(len(label)).astype(np.float32),
            unadapted_prediction=logits.argmin(axis=1),
            step_predictions=over_steps,
            logits=logits,
            seconds=1.0,
        )
        folder.write_chunk(number, records, card.key)
    cost = {
        "flops_per_sample": {"frozen": DIRECTIONS, "adapted": DIRECTIONS},
        "setup_flops": DIRECTIONS, "peak_memory_bytes": 10**8, "backbone_parameters": 10**7,
        "parameters_updated": 256,
    }  # fmt: skip
    folder.write_json("cost.json", cost, card.key)


def write_runs(root: Path, options: argparse.Namespace) -> None:
    """Write a run of every method."""
    for number in range(options.methods):
        name = f"method-{number:02}"
        write_run(root / name, name, options.samples, options.classes, options.steps, number + 1)


def in_a_process(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Call a function in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{function.__name__} failed")


def protocol_part(ids: list[str], classes: int) -> dict[str, Any]:
    """Return the part of the card that all runs share."""
    return {
        "dataset": "imagefolder:photos", "revision": "0", "corruption_source": None,
        "samples": samples_digest(ids), "n": len(ids), "limit": None, "seed": 0,
        "class_names": [f"class {number}" for number in range(classes)],
        "scoring_rule": SCORING_RULE, "skipped": [],
    }  # fmt: skip


def method_part(method: str, steps: int, chunks: int) -> dict[str, Any]:
    """Return the part of the card that each run has alone."""
    return {
        "method": method, "kind": "sample", "plugin": {"distribution": "d", "version": "1"},
        "config": {"steps": steps}, "backbone": "tiny-clip", "weights": "0", "dtype": "float32",
        "labelled_data": None, "known_failures": {}, "chunks": chunks, "code": {},
        "precision": "fp32",
    }  # fmt: skip


def measure(command: list[str]) -> dict[str, float]:
    """Run one command and return its seconds, those of all cores, and its peak memory in MB."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_memory_mb": round(usage.ru_maxrss * unit / 1e6, 1),
    }


def main() -> None:
    """Write the runs, time each command on them, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", type=int, default=40)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        # The peak memory of a command is at least that of the process that starts it.
        in_a_process(write_runs, (Path(root, "runs"), options))
        command = [sys.executable, "-m", "ttt_bench"]
        runs = str(Path(root, "runs"))
        result = {
            **vars(options),
            "compare": measure([*command, "compare", runs]),
            "compare, JSON": measure([*command, "compare", runs, "--format", "json"]),
            "report": measure([*command, "report", runs, "-o", str(Path(root, "report.html"))]),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
