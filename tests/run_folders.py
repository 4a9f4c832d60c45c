"""Run folders written by hand, for tests of what reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ttt_bench.api.records import Records
from ttt_bench.runs.card import Card, samples_digest
from ttt_bench.runs.folder import RunFolder

N = 6
IDS = [f"{number:016x}" for number in range(N)]
PROTOCOL: dict[str, Any] = {
    "dataset": "imagefolder:nowhere", "revision": "0", "corruption_source": None,
    "samples": samples_digest(IDS), "n": N, "class_names": ["cat", "dog", "eel"], "limit": None,
    "seed": 0, "scoring_rule": "top-1", "skipped": [],
}  # fmt: skip
METHOD: dict[str, Any] = {
    "method": "apm", "plugin": {"distribution": "d", "version": "1"}, "config": {"steps": 2},
    "backbone": "tiny-clip", "weights": "0", "dtype": "float32", "transform": {"size": 32},
    "prompt": "a photo of a {}.", "templates": ["{}"], "labelled_data": None, "kind": "sample",
    "precision": "fp32",
    "known_failures": {}, "chunks": 1, "code": {},
}  # fmt: skip
ABOUT: dict[str, Any] = {
    "samples": N, "started": "2027-01-01T00:00:00+00:00",
    "worker": {"method": "apm", "config": {"steps": 2}, "dataset": "imagefolder:nowhere",
               "backbone": "tiny-clip", "data_root": None, "seed": 0},
    "environment": {"python": "3.11", "packages": {"torch": "2"}},
    "harness": {"version": "0.1.0", "code": "0"}, "code_files": {},
}  # fmt: skip
FLOPS = {"forward": 1.0, "backward": 0.0}
COST: dict[str, Any] = {
    "probed_samples": 2, "setup_flops": FLOPS, "peak_memory_bytes": 10,
    "flops_per_sample": {"frozen": FLOPS, "adapted": FLOPS}, "backbone_parameters": 5,
    "parameters_updated": 3,
}  # fmt: skip


def write_run(
    path: Path,
    protocol: Any = PROTOCOL,
    method: Any = METHOD,
    about: Any = ABOUT,
    cost: Any = COST,
    image_digest: Sequence[str] = (),
    group: Sequence[str] | None = None,
    wrong: int | None = None,
) -> None:
    """Write a finished run of these parts, with drawn records.

    Args:
        path: the run's folder.
        protocol: the protocol part of its card.
        method: the method part of its card.
        about: what else its manifest holds.
        cost: its `cost.json`.
        image_digest: the digest of each sample's image.
        group: the group of each sample; None for those of the samples that `protocol` names.
        wrong: the first samples that are predicted wrong, all others are right; None to draw the
            predictions.
    """
    folder, groups, ids = RunFolder(path), group or ["fog"] * 3 + ["snow"] * 3, IDS
    n = len(groups)
    if group:
        ids = [f"{number:016x}" for number in range(n)]
        protocol = {**protocol, "samples": samples_digest(ids), "n": n}
        about = {**about, "samples": n}
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, 3)).astype(np.float32)
    label = rng.integers(0, 3, n)
    if wrong is not None:
        logits[np.arange(n), (label + (np.arange(n) < wrong)) % 3] = 9
    steps = np.stack([logits.argmax(1)] * 2, axis=1)
    records = Records(
        ids, list(groups), label, logits.argmax(1),
        rng.random(n).astype(np.float32), logits.argmin(1), steps, logits, 1.0,
        list(image_digest),
    )  # fmt: skip
    (path / "manifest.json").unlink(missing_ok=True)
    card = Card(protocol, method)
    folder.begin(card, about)
    folder.write_chunk(0, records, card.key)
    folder.write_json("cost.json", cost, card.key)
