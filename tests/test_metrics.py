"""Metrics are what their definitions say, and functions of records alone."""

import json
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.run_folders import write_run
from ttt_bench import MetricSpec, registered
from ttt_bench.api.records import Records
from ttt_bench.metrics import accuracy, calibration, steps
from ttt_bench.metrics.scoring import score_parts
from ttt_bench.metrics.values import score
from ttt_bench.registry import registry


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


def value(name: str, drawn: Records) -> float:
    return score(registry().metrics.find(name).spec, drawn)


def test_nll_and_brier_are_torchs():
    drawn = records()
    logits, labels = torch.from_numpy(drawn.logits).double(), torch.from_numpy(drawn.label)
    assert value("nll", drawn) == pytest.approx(F.cross_entropy(logits, labels).item())
    expected = (logits.softmax(1) - F.one_hot(labels, 7)).square().sum(1).mean().item()
    assert value("brier", drawn) == pytest.approx(expected)


def test_ece_by_its_definition():
    drawn = records(500)
    total = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = [i for i, c in enumerate(drawn.confidence) if low < c <= high]
        if inside:
            accuracy_of_bin = np.mean([drawn.prediction[i] == drawn.label[i] for i in inside])
            total += len(inside) / 500 * abs(accuracy_of_bin - np.mean(drawn.confidence[inside]))
    assert calibration.ece(drawn) == pytest.approx(100 * total)


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
    drawn = records()
    assert accuracy.error_rate(drawn) == pytest.approx(100 - accuracy.top1(drawn))
    shares = [
        np.mean([p == k for p, k in zip(drawn.prediction, drawn.label, strict=True) if k == c])
        for c in range(7)
    ]
    assert accuracy.mean_per_class(drawn) == pytest.approx(100 * np.mean(shares))
    assert accuracy.top1(drawn) <= value("top5", drawn) <= 100


def test_steps():
    drawn = records()
    assert steps.oracle_gap(drawn) == pytest.approx(steps.oracle_top1(drawn) - accuracy.top1(drawn))
    by_step = steps.step_top1(drawn)
    assert len(by_step) == 4
    assert by_step[-1] == pytest.approx(accuracy.top1(drawn))
    assert max(by_step) <= steps.oracle_top1(drawn)
    changed = steps.changed(drawn)
    assert changed is not None
    before = 100 * np.mean(drawn.unadapted_prediction == drawn.label)
    assert by_step[-1] - before == pytest.approx(changed["helped"] - changed["harmed"])
    assert changed["helped"] + changed["harmed"] <= changed["share"]
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
        "drawn = Records(sample_id=[str(i) for i in range(n)], group=[None] * n,\n"
        "    label=rng.integers(0, 100, n), prediction=logits.argmax(1),\n"
        "    confidence=rng.random(n).astype(np.float32), unadapted_prediction=None,\n"
        "    step_predictions=None, logits=logits, seconds=1.0)\n"
        "for name, item in registry().metrics.items():\n"
        "    item.spec.load()(drawn)\n"
        "assert 'torch' not in sys.modules\n"
    )
    started = time.monotonic()
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)
    assert time.monotonic() - started < 30


class TextlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def _sorts_in_place(given: Records) -> float:
    given.label.sort()
    return 0.0


def _clears_the_names(given: Records) -> float:
    given.sample_id.clear()  # pyright: ignore[reportAttributeAccessIssue]
    return 1.0


def _exits(given: Records) -> float:
    sys.exit(0)


def _raises(given: Records) -> float:
    raise ValueError("\n\x1b[31mred\x1b[0m and \x1b]0;title\x07 a bell \x07\nsecond line")


def _raises_without_text(given: Records) -> float:
    raise TextlessError


MISBEHAVING = {
    "sorts": (_sorts_in_place, "failed: ValueError: "),
    "clears": (_clears_the_names, "failed: AttributeError: "),
    "exits": (_exits, "failed: SystemExit: 0"),
    "raises": (_raises, "failed: ValueError: red and  a bell \\x07; it is left out"),
    "no_text": (_raises_without_text, "TextlessError, whose text cannot be made (RuntimeError)"),
    "set": (
        lambda given: {1.0},
        "gave a value of type set; it must give a number, numbers",
    ),
    "text": (lambda given: "high", "gave a value of type str"),
    "boolean": (lambda given: True, "gave a value of type bool"),
    "object": (lambda given: object(), "gave a value of type object"),
    "tensor": (lambda given: torch.ones(()), "gave a value of type torch.Tensor"),
    "matrix": (lambda given: given.required_logits(), "gave a value of type numpy.ndarray"),
    "nested": (lambda given: {"a": {"b": 1.0}}, "gave a value of type dict"),
    "nan": (lambda given: float("nan"), "gave a number that is not finite"),
    "infinite": (lambda given: [1.0, np.float32("inf")], "gave a number that is not finite"),
    "huge": (lambda given: 10**400, "gave a number that is not finite"),
    "too_fine": (lambda given: np.longdouble(1) / 3, "gave a number that no float holds exactly"),
    "keys": (lambda given: {3: 1.0}, "named a number by a value of type int"),
}
EXACT = {
    "half": (lambda given: np.float32(0.1), float(np.float32(0.1))),
    "count": (lambda given: np.int64(3), 3),
    "array": (lambda given: np.array([1, 2], np.uint8), [1, 2]),
    "scalar": (lambda given: np.array(2.5), 2.5),
    "by_name": (lambda given: {"a": np.float64(1), "b": None}, {"a": 1.0, "b": None}),
    "several": (lambda given: (np.float16(0.5), 1), [0.5, 1]),
    "nothing": (lambda given: None, None),
}


def test_a_metric_that_misbehaves_is_named_and_left_out(ttt, tmp_path, monkeypatch):
    """Whatever a metric does, the run keeps its other numbers, and they are the true ones."""
    write_run(tmp_path / "run")
    _, out, _ = ttt("compare", "run", "--format", "json")
    (plain_row,) = json.loads(out)["rows"]
    module = types.ModuleType("misbehaving_metrics")
    for name, (metric, _) in {**MISBEHAVING, **EXACT}.items():
        setattr(module, name, metric)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    specs = [
        MetricSpec(name=name, summary="", code=f"{module.__name__}:{name}")
        for name in (*MISBEHAVING, *EXACT)
    ]
    with registered(metrics=specs, name="careless"):
        code, out, err = ttt("compare", "run", "--format", "json")
        assert code == 0, err
        assert ttt("compare", "run")[0] == 0
    (row,) = json.loads(out)["rows"]
    lines = [line for line in err.splitlines() if line.startswith("metric ")]
    assert len(lines) == len(MISBEHAVING)
    for line, (name, (_, text)) in zip(lines, MISBEHAVING.items(), strict=True):
        assert line.startswith(f"metric {name} of plugin careless"), line
        assert text in line
        assert line.endswith("; it is left out")
        assert name not in row
    assert {name: row[name] for name in EXACT} == {
        name: wanted for name, (_, wanted) in EXACT.items()
    }
    assert {name: row[name] for name in plain_row} == plain_row


def test_a_metric_that_fails_on_many_runs_is_named_once(ttt, tmp_path, monkeypatch):
    for number in range(5):
        write_run(tmp_path / "runs" / str(number))
    module = types.ModuleType("misbehaving_metrics")
    module.exits = _exits  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = MetricSpec(name="exits", summary="", code=f"{module.__name__}:exits")
    with registered(metrics=[spec]):
        code, _, err = ttt("compare", "runs")
    assert code == 0
    assert err.count("metric exits") == 1


def _interrupted(given: Records) -> float:
    raise KeyboardInterrupt


def test_a_metric_interrupted_by_ctrl_c_ends_the_command(monkeypatch):
    module = types.ModuleType("interrupted_metrics")
    module.interrupted = _interrupted  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for per_sample in (False, True):
        spec = MetricSpec(
            name="interrupted", summary="", code="interrupted_metrics:interrupted",
            per_sample=per_sample,
        )  # fmt: skip
        with registered(metrics=[spec]), pytest.raises(KeyboardInterrupt):
            score_parts([records], classes=7)
