"""Precision: of the backbone's forward pass alone, on the card, and never mixed in the cache."""

from pathlib import Path

import pytest
import torch

from tests.records_equal import records_equal
from ttt_bench.api.forward_precision import forward_precision
from ttt_bench.cache.inventory import inventory
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.engine.loading import load_backbone
from ttt_bench.engine.task import CachingTask
from ttt_bench.runs.folder import RunFolder

RUN = ("-d", "cifar10-c-mini", "--device", "cpu")
# Share of the samples whose prediction in 16 bits is that in float32.
AGREEMENT = 0.97


def test_16_bits_agree_with_float32(run_json, records_of):
    full, half = (
        run_json(*RUN, "-m", "clip-zero-shot", "--limit", 320, "--precision", name, "-o", name)[0]
        for name in ("fp32", "bf16")
    )
    full_records, half_records = records_of(full), records_of(half)
    agreeing = (full_records.prediction == half_records.prediction).mean()
    assert agreeing > AGREEMENT
    assert not (full_records.logits == half_records.logits).all()
    assert half["precision"] == "bf16"
    assert RunFolder(Path(half["path"])).card().method["precision"] == "bf16"
    assert {file.backbone for file in inventory()} == {"tiny-clip", "tiny-clip bf16"}


def test_the_table_shows_it(ttt, run_json):
    for name in ("fp32", "bf16"):
        run_json(*RUN, "-m", "clip-zero-shot", "--limit", 16, "--precision", name, "-o", name)
    code, out, err = ttt("compare", "fp32", "bf16", "--tables", "all")
    assert code == 0, err
    assert "tiny-clip bf16" in out
    assert "precision" in out


def test_tf32_on_a_cpu_is_float32(run_json, records_of):
    full, tf32 = (
        run_json(*RUN, "-m", "clip-zero-shot", "--limit", 16, "--precision", name, "-o", name)[0]
        for name in ("fp32", "tf32")
    )
    assert records_equal(records_of(full), records_of(tf32))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_family_runs_in_16_bits(run_json, precision: str):
    methods = ("-m", "apm", "-m", "tpt", "-m", "tpt-cocoop", "-m", "coop", "-m", "ttt-mae")
    fast = ("--set", "steps=2", "--set", "tpt.views=16", "--set", "tpt-cocoop.views=16")
    runs = run_json(
        *RUN, *methods, *fast, "--set", "copies=4", "--limit", 4, "--precision", precision
    )
    assert len(runs) == 5


def test_the_methods_own_arithmetic_stays_in_float32():
    task = CachingTask(
        load_backbone("tiny-clip", "cpu"), Cifar10CMini("", None).classes, precision="bf16"
    )
    images = torch.rand(2, 3, 32, 32)
    features = task.encode_pixels(images)
    assert features.dtype == torch.float32
    assert task.logits(features).dtype == torch.float32
    assert (features @ features.T).dtype == torch.float32
    with task.forward_pass():
        assert (features @ features.T).dtype == torch.bfloat16


def test_tf32_is_on_inside_alone():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with forward_precision(torch.device("cpu"), "tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_an_unknown_precision_is_refused(ttt):
    code, _, err = ttt("run", *RUN, "-m", "apm", "--precision", "fp8")
    assert code == 2
    assert "fp8" in err
    assert "'bf16'" in err
