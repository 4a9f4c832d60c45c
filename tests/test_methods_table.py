"""The table of all methods follows from what they declare, and its counts from shapes alone."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from tools import count_costs, methods_table
from tools.count_costs import DrawnResults
from ttt_bench import GoldenSpec, load_backbone
from ttt_bench.datasets.loading import load_dataset
from ttt_bench.engine.worker import MethodWorker, MethodWorkerSpec
from ttt_bench.registry import registry
from ttt_bench.runner.settings import resolve_config
from ttt_bench.testing.goldens import GoldenResult


def test_the_page_shows_what_the_methods_declare():
    assert methods_table.main(["--check"]) == 0, "type `python tools/methods_table.py`"


def test_every_method_has_a_row_of_as_many_cells_as_the_heading():
    costs = {"gflops": {"tpt": {"ViT-B/16": 2248.1, "ResNet-50": None}}}
    table = methods_table.rows(costs, {"tpt": {"tpt": 1e-6, "other": 0.0}})
    assert len(table) == len(methods_table.shipped()) > 50
    assert {len(row) for row in table} == {len(methods_table.HEADING)}
    (row,) = [row for row in table if row[0] == "[`tpt`](tpt.md)"]
    assert row[1:4] == ("[Shu et al.](https://arxiv.org/abs/2209.07511)", "2022", "sample")
    assert row[8:11] == ("2,250", "-", "1e-6 (`tpt`); 0 (`other`)")
    assert row[11] == "[azshue/TPT](https://github.com/azshue/TPT), MIT"
    (ecalp,) = [row for row in table if row[0] == "[`ecalp`](clip.md#ecalp)"]
    assert ecalp[8:10] == ("not counted yet", "not counted yet")


def test_methods_declare_what_the_table_needs():
    for spec in methods_table.shipped().values():
        assert bool(spec.keeps) == (spec.kind == "stream"), spec.name
        assert re.fullmatch(r"([\w.-]+/[\w.-]+, [\w .-]+)?", spec.release), spec.name
        assert not spec.paper or re.match(r".+? \d{4}, ", spec.paper), spec.name
    covered = {m for item in registry().goldens.values() for m in item.spec.methods}
    shown = json.loads(methods_table.GOLDENS.read_text("utf-8"))
    assert set(shown) == covered & set(methods_table.shipped())


def test_outputs_belong_to_the_method_whose_name_they_begin_with():
    spec = GoldenSpec(
        name="g", summary="", code="", file="", arrays=frozenset(),
        methods=("tpt", "tpt-coop", "c-tpt", "watt", "tent-clip"),
    )  # fmt: skip
    differences = {"steps1/x": 0.5, "tpt_coop/x": 0.1, "ctpt/x": 0.2, "ctpt/y": 0.3, "watt/x": 0.4}
    result = GoldenResult(spec, differences, differences)
    assert methods_table.by_method(result) == {
        "tpt": 0.5, "tpt-coop": 0.1, "c-tpt": 0.3, "watt": 0.4, "tent-clip": 0.5,
    }  # fmt: skip


# Small enough to be computed, with convolutions, attention, gradients and views.
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tent": ("tiny-resnet", {"batch_size": 3}),
    "memo": ("tiny-resnet", {"views": 3}),
    "cotta": ("tiny-resnet", {"batch_size": 2, "copies": 2, "threshold": 2.0}),
    "tpt": ("tiny-clip", {"views": 8, "selection": 0.25}),
    "ttl": ("tiny-clip", {"views": 3, "blocks": 1}),
    "clipartt": ("tiny-clip", {"batch_size": 2, "steps": 1}),
}


@pytest.mark.parametrize("method", CASES)
def test_drawn_results_cost_what_computed_ones_cost(method: str):
    name, settings = CASES[method]
    spec = registry().adapters[method].spec
    dataset, backbone = load_dataset("cifar10-c-mini", None), load_backbone(name, "cpu")
    config = resolve_config(spec, "", "", settings)
    worker = MethodWorkerSpec(
        method=method, config=config, dataset="cifar10-c-mini", backbone=name, data_root=None,
        device="cpu", seed=0, batch_size=1, feature_cache=False,
    )  # fmt: skip
    batch = [range(config.get("batch_size", 1))]
    computed = MethodWorker(worker, dataset, backbone).count_costs(batch)
    with DrawnResults(large=512):
        drawn = MethodWorker(worker, dataset, backbone).count_costs(batch)
    assert drawn["flops_per_sample"] == computed["flops_per_sample"]
    assert drawn["parameters_updated"] == computed["parameters_updated"]


def test_counting_goes_on_where_it_stopped(tmp_path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, str]] = []

    class Counting:
        """Stands for the counting with a backbone."""

        def __init__(self, name: str, folder) -> None:
            self.name = name

        def gflops(self, method: str) -> float | None:
            asked.append((method, self.name))
            return None if method == "norm" and "vit" in self.name else 1.23456

    monkeypatch.setattr(count_costs, "Counting", Counting)
    path = tmp_path / "costs.json"
    count_costs.count(path, tmp_path, ["tent"], ["tent", "norm", "tpt"])
    assert asked == [("tent", "timm:vit_base_patch16_224"), ("tent", "timm:resnet50")]
    asked.clear()
    count_costs.count(path, tmp_path, [], ["tent", "norm", "ttt-mae"])
    assert asked == [("norm", "timm:vit_base_patch16_224"), ("norm", "timm:resnet50")]
    content = json.loads(path.read_text("utf-8"))
    assert content["versions"] == count_costs.versions()
    assert content["gflops"] == {
        "tent": {"ViT-B/16": 1.235, "ResNet-50": 1.235},
        "norm": {"ViT-B/16": None, "ResNet-50": 1.235},
        "ttt-mae": {"ViT-B/16": None, "ResNet-50": None},
    }
