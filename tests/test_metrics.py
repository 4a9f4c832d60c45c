"""Metrics are what their definitions say, and functions of records alone."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ttt_bench.api.records import Records
from ttt_bench.metrics import accuracy, calibration, steps


def records(n: int = 200, classes: int = 7, n_steps: int | None = 4, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)).astype(np.float32) * 3
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    over_steps = before = None
    if n_steps:
        before = rng.integers(0, classes, n)
        over_steps = rng.integers(0, classes, (n, n_steps))
        over_steps[:, -1] = logits.argmax(1)
    return Records(
        sample_id=[str(i) for i in range(n)],
        group=[None] * n,
        label=rng.integers(0, classes, n),
        prediction=logits.argmax(1),
        confidence=probabilities.max(1).astype(np.float32),
        unadapted_prediction=before,
        step_predictions=over_steps,
        logits=logits,
        seconds=1.0,
    )


def test_nll_and_brier_are_torchs():
    own = records()
    logits, labels = torch.from_numpy(own.logits).double(), torch.from_numpy(own.label)
    assert calibration.nll(own) == pytest.approx(F.cross_entropy(logits, labels).item())
    expected = (logits.softmax(1) - F.one_hot(labels, 7)).square().sum(1).mean().item()
    assert calibration.brier(own) == pytest.approx(expected)


def test_ece_by_its_definition():
    own = records(500)
    total = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = [i for i, c in enumerate(own.confidence) if low < c <= high]
        if inside:
            accuracy_of_bin = np.mean([own.prediction[i] == own.label[i] for i in inside])
            total += len(inside) / 500 * abs(accuracy_of_bin - np.mean(own.confidence[inside]))
    assert calibration.ece(own) == pytest.approx(100 * total)


def test_a_calibrated_classifier_has_a_small_ece_and_a_boaster_a_large_one():
    rng = np.random.default_rng(0)
    n = 20_000
    p = rng.uniform(0.5, 1, n)
    label = (rng.random(n) > p).astype(int)
    logits = np.stack([np.log(p), np.log1p(-p)], 1).astype(np.float32)
    fields = dict(
        sample_id=[""] * n, group=[None] * n, label=label, prediction=np.zeros(n, int),
        unadapted_prediction=None, step_predictions=None, logits=logits, seconds=0.0,
    )  # fmt: skip
    honest = Records(confidence=p.astype(np.float32), **fields)
    assert calibration.ece(honest) < 1.5
    boaster = Records(confidence=np.ones(n, np.float32), **fields)
    assert calibration.ece(boaster) == pytest.approx(100 - accuracy.top1(honest))


def test_accuracies():
    own = records()
    assert accuracy.error_rate(own) == pytest.approx(100 - accuracy.top1(own))
    shares = [
        np.mean([p == k for p, k in zip(own.prediction, own.label, strict=True) if k == c])
        for c in range(7)
    ]
    assert accuracy.mean_per_class(own) == pytest.approx(100 * np.mean(shares))
    assert accuracy.top1(own) <= accuracy.top5(own) <= 100


def test_steps():
    own = records()
    assert steps.oracle_gap(own) == pytest.approx(steps.oracle_top1(own) - accuracy.top1(own))
    by_step = steps.step_top1(own)
    assert len(by_step) == 4
    assert by_step[-1] == pytest.approx(accuracy.top1(own))
    assert max(by_step) <= steps.oracle_top1(own)
    found = steps.changed(own)
    assert found is not None
    before = 100 * np.mean(own.unadapted_prediction == own.label)
    assert by_step[-1] - before == pytest.approx(found["helped"] - found["harmed"])
    assert found["helped"] + found["harmed"] <= found["share"]
    still = records(n_steps=None)
    assert steps.step_top1(still) == []
    assert steps.changed(still) is None
    assert steps.oracle_gap(still) == 0


def test_rescoring_fifty_thousand_records_takes_seconds_and_no_torch(tmp_path):
    """A metric of a plugin's own on a saved run of ImageNet's size, in a fresh process."""
    script = tmp_path / "rescore.py"
    script.write_text(
        "import sys\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from ttt_bench.runs.folder import Records, RunFolder\n"
        "from ttt_bench.registry import registry\n"
        "rng = np.random.default_rng(0)\n"
        "n = 50_000\n"
        "logits = rng.normal(size=(n, 100)).astype(np.float32)\n"
        "own = Records(sample_id=[str(i) for i in range(n)], group=[None] * n,\n"
        "    label=rng.integers(0, 100, n), prediction=logits.argmax(1),\n"
        "    confidence=rng.random(n).astype(np.float32), unadapted_prediction=None,\n"
        "    step_predictions=None, logits=logits, seconds=1.0)\n"
        "for name, item in registry().metrics.items():\n"
        "    item.spec.load()(own)\n"
        "assert 'torch' not in sys.modules\n"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)
    assert time.monotonic() - started < 30
