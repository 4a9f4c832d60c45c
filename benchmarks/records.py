"""Seconds and peak memory of what reads the records of large runs, made for it.

    python benchmarks/records.py
    python benchmarks/records.py --imagenet-c

The first makes two runs of 50,000 samples and 1000 classes, 0.4 GB. The second makes one run of
ImageNet-C's size, 3,750,000 samples in 2021 chunks, 16 GB; it needs some minutes. The runs lie in a
temporary folder (`--folder` names another place) and are removed at the end. Every command runs in
a process of its own. Prints JSON on the last line.

- `summarize`: what `ttt-bench run` does when the last chunk is finished.
- `rescore`: `ttt-bench compare` of one run.
- `compare`, `report`: of both runs.
- `export`: one run, without its logits.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from compare import DIRECTIONS, in_a_process, measure, method_part, protocol_part

from ttt_bench.api.records import Records
from ttt_bench.datasets.corruptions import SHORT_NAMES
from ttt_bench.runs.card import Card
from ttt_bench.runs.folder import RunFolder

CLASSES = 1000
SEVERITIES = 5
SUMMARIZE = """
import sys
from pathlib import Path
from ttt_bench.metrics.summary import summarize
from ttt_bench.runs.folder import RunFolder

folder = RunFolder(Path(sys.argv[1]))
card = folder.card()
summary, _ = summarize(card, folder.parts(card), folder.read_json("cost.json", card.key))
folder.write_json("summary.json", summary, card.key)
"""


def write_run(path: Path, method: str, samples: int, steps: int, seed: int) -> None:
    """Write one finished run, whose chunks have the same logits and labels of their own."""
    # Imported here: the plan imports torch, which would count in every command's peak memory.
    from ttt_bench.runs.plan import chunk_size

    draws = np.random.default_rng(seed)
    size = chunk_size(samples)
    starts = range(0, samples, size)
    # An odd factor permutes the numbers of 64 bits, so that ids are in no order, as hashes are.
    ids = [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(samples)]
    groups = [f"{name}@{s}" for name in SHORT_NAMES for s in range(1, SEVERITIES + 1)]
    card = Card(protocol_part(ids, CLASSES), method_part(method, steps, len(starts)))
    worker = {
        "method": method, "config": {"steps": steps}, "dataset": "imagefolder:photos",
        "backbone": "tiny-clip", "data_root": None, "weights": None, "seed": 0,
    }  # fmt: skip
    about = {"samples": samples, "worker": worker, "environment": {}, "code_files": {},
             "harness": {"version": "0", "code": "0"}}  # fmt: skip
    folder = RunFolder(path)
    folder.begin(card, about)
    logits = draws.normal(scale=3, size=(size, CLASSES)).astype(np.float32)
    trajectory = draws.integers(0, CLASSES, (size, steps))
    trajectory[:, -1] = logits.argmax(axis=1)
    for number, start in enumerate(starts):
        rows = range(start, min(start + size, samples))
        inside = slice(0, len(rows))
        # 60 % of the predictions are right.
        label = np.where(
            draws.random(size) < 0.6, trajectory[:, -1], draws.integers(0, CLASSES, size)
        )
        records = Records(
            sample_id=[ids[row] for row in rows],
            group=[groups[row * len(groups) // samples] for row in rows],
            label=label[inside],
            prediction=trajectory[inside, -1],
            confidence=draws.random(size)[inside].astype(np.float32),
            unadapted_prediction=trajectory[inside, 0],
            step_predictions=trajectory[inside],
            logits=logits[inside],
            seconds=1.0,
            image_digest=[2 * ids[row] for row in rows],
        )
        folder.write_chunk(number, records, card.key)
    cost: dict[str, Any] = {
        "flops_per_sample": {"frozen": DIRECTIONS, "adapted": DIRECTIONS},
        "setup_flops": DIRECTIONS, "peak_memory_bytes": 10**8, "backbone_parameters": 10**7,
        "parameters_updated": 256,
    }  # fmt: skip
    folder.write_json("cost.json", cost, card.key)


def main() -> None:
    """Write the runs, time each command on them, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagenet-c", action="store_true", help="One run of 3,750,000 samples.")
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="Where the temporary folder is made.")
    options = parser.parse_args()
    samples = 3_750_000 if options.imagenet_c else options.samples
    methods = ("first",) if options.imagenet_c else ("first", "second")
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        for number, method in enumerate(methods):
            arguments = (Path(root, "runs", method), method, samples, options.steps, number)
            # The peak memory of a command is at least that of the process that starts it.
            in_a_process(write_run, arguments)
        print(f"{len(methods)} runs of {samples:,} samples are written", file=sys.stderr)
        command = [sys.executable, "-m", "ttt_bench"]
        runs, first = str(Path(root, "runs")), str(Path(root, "runs", "first"))
        words = {
            "summarize": [sys.executable, "-c", SUMMARIZE, first],
            "rescore": [*command, "compare", first, "--format", "json"],
            "export": [*command, "export", first, "-o", str(Path(root, "runs.zip"))],
        }
        if not options.imagenet_c:
            words["compare"] = [*command, "compare", runs, "--format", "json"]
            words["report"] = [*command, "report", runs, "-o", str(Path(root, "report.html"))]
        result: dict[str, Any] = {"samples": samples, "classes": CLASSES, "steps": options.steps}
        for name, one in words.items():
            result[name] = measure(one)
            print(name, result[name], file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
