"""`ttt-bench run`: what it prints, what it keeps, and what a result depends on."""

import itertools
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from tests.records_equal import records_equal
from tests.worker_specs import worker_spec
from ttt_bench import AdapterSpec, registered
from ttt_bench.api.executor import Chunk
from ttt_bench.api.records import Records
from ttt_bench.baselines.clip import ZeroShot
from ttt_bench.datasets.loading import load_dataset
from ttt_bench.engine import worker
from ttt_bench.engine.worker import MethodWorkerSpec
from ttt_bench.registry import registry
from ttt_bench.runner.settings import resolve_config
from ttt_bench.runs.folder import RunFolder
from ttt_bench.runs.plan import make_plan

METHODS = ("--method", "clip-zero-shot", "--method", "apm")
KEYS = {"method", "dataset", "backbone", "n", "top1", "top5", "groups", "oracle_top1", "cost",
        "fingerprint", "path"}  # fmt: skip
COST = {"gflops_per_sample", "peak_memory_mb", "ms_per_sample", "parameters_updated"}


def test_json_contract(run_json, records_of):
    runs = run_json(*METHODS, "--limit", 60)
    assert [run["method"] for run in runs] == ["clip-zero-shot", "apm"]
    for run in runs:
        assert set(run) >= KEYS
        assert set(run["cost"]) == COST
        assert run["n"] == 60
        assert run["oracle_top1"] >= run["top1"]
        assert len(run["groups"]) == 16
        records = records_of(run)
        assert run["top1"] == pytest.approx(100 * np.mean(records.prediction == records.label))
    zero_shot, apm = runs
    assert zero_shot["fingerprint"] == apm["fingerprint"]
    assert zero_shot["cost"]["parameters_updated"] == 0
    assert apm["cost"]["parameters_updated"] > 50_000
    assert apm["cost"]["gflops_per_sample"] > zero_shot["cost"]["gflops_per_sample"]
    assert records_of(zero_shot).step_predictions is None
    steps = records_of(apm).step_predictions
    assert steps is not None
    assert steps.shape == (60, 20)
    assert (steps[:, -1] == records_of(apm).prediction).all()


def test_predictions_do_not_depend_on_batch_size(run_json, records_of, tmp_path: Path):
    results = [
        [
            records_of(run)
            for run in run_json(
                *METHODS, "--limit", 40, "--batch-size", size, "--output", tmp_path / str(size)
            )
        ]
        for size in (1, 7, 16)
    ]
    for first, other in itertools.pairwise(results):
        assert all(records_equal(a, b) for a, b in zip(first, other, strict=True))


def test_seed_decides_the_draws(run_json, records_of):
    settings = ("--method", "apm", "--limit", 20)
    (first,), (again,) = (run_json(*settings, "--seed", 1, "--output", o) for o in "ab")
    (other,) = run_json(*settings, "--seed", 2, "--output", "c")
    assert records_equal(records_of(first), records_of(again))
    assert not np.array_equal(records_of(first).logits, records_of(other).logits)
    assert first["fingerprint"] != other["fingerprint"]


def test_rerun_does_only_what_is_missing(run_json, records_of):
    settings = ("--method", "apm", "--limit", 80)
    (first,) = run_json(*settings)
    before = records_of(first)
    folder = RunFolder(Path(first["path"]))
    untouched = folder.chunk_path(0).stat().st_mtime_ns
    folder.chunk_path(1).unlink()
    (second,) = run_json(*settings)
    assert second["path"] == first["path"]
    assert folder.chunk_path(0).stat().st_mtime_ns == untouched
    assert records_equal(records_of(second), before)


def test_interrupted_run_keeps_chunks_and_continues(ttt, run_json, records_of, monkeypatch):
    settings = ("--method", "apm", "--limit", 80)
    (undisturbed,) = run_json(*settings, "--output", "undisturbed")
    run_chunk = worker.MethodWorker.run

    def interrupted(self, chunk):
        if chunk.number == 1:
            raise KeyboardInterrupt
        return run_chunk(self, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(worker.MethodWorker, "run", interrupted)
        code, _, err = ttt("run", "-d", "cifar10-c-mini", *settings, "--device", "cpu", "-o", "r")
    assert code == 130
    assert "same command continues" in err
    folder = RunFolder(Path("r/cifar10-c-mini/apm"))
    assert [folder.chunk_path(n).exists() for n in range(3)] == [True, False, False]
    (continued,) = run_json(*settings, "--output", "r")
    assert records_equal(records_of(continued), records_of(undisturbed))


def test_settings_reach_the_method(run_json, records_of):
    (run,) = run_json("--method", "apm", "--limit", 20, "--set", "steps=3", "--set", "apm.lr=1e-2")
    steps = records_of(run).step_predictions
    assert steps is not None
    assert steps.shape == (20, 3)
    config = RunFolder(Path(run["path"])).card().method["config"]
    assert (config["lr"], config["steps"], config["grid"]) == (0.01, 3, 8)


def test_config_file_gives_the_options(ttt, tmp_path: Path):
    text = "method: [apm]\ndataset: cifar10-c-mini\nlimit: 20\nset:\n  apm: {steps: 2}\n"
    (tmp_path / "run.yaml").write_text(text)
    code, out, err = ttt("run", "--config", "run.yaml", "--limit", 24, "--output", "r")
    assert code == 0, err
    card = RunFolder(Path("r/cifar10-c-mini/apm")).card()
    assert (card.method["config"]["steps"], card.protocol["limit"]) == (2, 24)
    assert "oracle top-1" in out
    assert "24 samples" in err


def test_two_settings_have_two_folders(run_json):
    settings = ("--method", "apm", "--limit", 20, "--set")
    (two,), (three,) = run_json(*settings, "steps=2"), run_json(*settings, "steps=3")
    assert two["path"] != three["path"]
    assert two["fingerprint"] == three["fingerprint"]


def test_a_method_that_writes_to_the_backbone_is_caught(ttt, monkeypatch):
    adapt = ZeroShot.adapt

    def careless(self, samples, rngs):
        self.task.backbone.model.logit_scale.data += 0.1
        return adapt(self, samples, rngs)

    monkeypatch.setattr(ZeroShot, "adapt", careless)
    code, out, err = ttt("run", "-d", "cifar10-c-mini", "-m", "clip-zero-shot", "--limit", 4)
    assert (code, out) == (2, "")
    assert "clip-zero-shot changed the weights of tiny-clip" in err


SPEC = worker_spec("apm", batch_size=5)


def work(spec: MethodWorkerSpec, chunks: list[Chunk]) -> dict[int, Records]:
    """What another process does: build a worker from names alone."""
    worker = spec.build()
    return {chunk.number: worker.run(chunk) for chunk in chunks}


@pytest.mark.parametrize("method", ["apm", "tpt", "tpt-cocoop", "cocoop"])
def test_order_of_chunks_and_process_change_nothing(method: str):
    config = resolve_config(registry().adapters[method].spec, "tiny-clip", "", {})
    spec = replace(SPEC, method=method, config=config)
    chunks = list(make_plan(load_dataset("cifar10-c-mini"), 40).chunks)
    here = work(spec, chunks[::-1])
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        elsewhere = pool.submit(work, spec, chunks).result()
    assert all(records_equal(here[chunk.number], elsewhere[chunk.number]) for chunk in chunks)


def test_a_datasets_preset_stands_on_the_card_and_below_the_table(ttt):
    spec = AdapterSpec(
        name="preset",
        summary="",
        code="tests.streaming_methods:Drifting",
        kind="stream",
        dataset_presets={"cifar10-c-mini": {"batch_size": 4}},
        dataset_presets_note="chosen per test set by the authors",
    )
    words = ("run", "-m", "preset", "-d", "cifar10-c-mini:fog@5", "--limit", "4", "-o")
    with registered(adapters=[spec]):
        code, out, err = ttt(*words, "one")
        assert code == 0, err
        assert "¶ preset" in " ".join(out.split())
        assert "chosen per test set by the authors (batch_size 4)" in " ".join(out.split())
        assert ttt(*words, "other", "--set", "batch_size=2")[0] == 0
    one, other = (
        RunFolder(Path(name) / "cifar10-c-mini-fog@5" / "preset").card().method
        for name in ("one", "other")
    )
    assert one["dataset_preset"] == {"values": {"batch_size": 4}, "note": spec.dataset_presets_note}
    assert one["config"]["batch_size"] == 4
    assert "dataset_preset" not in other
