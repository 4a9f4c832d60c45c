"""Methods that carry state on purpose get whole rngs, in an order drawn from the seed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import Field

from tests.same import same
from ttt_bench import Adapter, AdapterConfig, AdapterSpec, Prediction, UserError
from ttt_bench.api.executor import Worker
from ttt_bench.registry import PluginInfo, registry
from ttt_bench.runs.plan import make_plan
from ttt_bench.testing.suite import adapter_checks

JOB = Job(
    method="running-mean",
    config={"batch_size": 5},
    dataset="cifar10-c-mini",
    backbone="tiny-clip",
    data_root=None,
    device="cpu",
    seed=0,
    batch_size=16,
)


class RunningMeanConfig(AdapterConfig):
    batch_size: int = Field(5, ge=1)


class RunningMean(Adapter[RunningMeanConfig]):
    """Classifies what of a feature is left without the mean of the stream so far."""

    Config = RunningMeanConfig

    def setup(self, task):
        super().setup(task)
        self.seen: list[torch.Tensor] = []
        self.batches: list[int] = []

    def adapt(self, samples, rngs):
        self.batches.append(len(samples))
        features = self.task.encode_image(samples)
        self.seen += list(features)
        mean = torch.stack(self.seen).mean(0)
        return [Prediction(self.task.logits(feature - 0.5 * mean)) for feature in features]


class NoBatchSize(RunningMean):
    Config = AdapterConfig


@pytest.fixture(autouse=True)
def registered():
    shelf = registry().adapters
    specs = [
        AdapterSpec(name=name, summary="", code=f"tests.test_online:{code}", kind="stream")
        for name, code in (("running-mean", "RunningMean"), ("no-batch-size", "NoBatchSize"))
    ]
    shelf.add(specs, PluginInfo("tests", "tests", "0"))
    yield
    for spec in specs:
        shelf._items.pop(spec.name)


def test_a_chunk_is_a_whole_stream_set_up_anew():
    worker = Worker.build(JOB)
    plan = make_plan(worker.dataset, 96, kind="stream")
    entries = worker.dataset.entries
    groups = [{entries[index].group for index in chunk.indices} for chunk in plan.chunks]
    assert [len(group) for group in groups] == [1] * 16
    assert len(set.union(*groups)) == 16
    first = [worker.run(chunk) for chunk in plan.chunks[:3]]
    # Six samples in batches of the configuration, not of --batch-size.
    assert worker.adapter.batches == [5, 1]
    # Streams do not feel one another, whoever does them in whatever order.
    again = Worker.build(replace(JOB, batch_size=1))
    for chunk, records in zip(plan.chunks[2::-1], first[::-1], strict=True):
        assert same(again.run(chunk), records)


def test_the_order_within_a_stream_is_the_seeds():
    chunk = make_plan(Worker.build(JOB).dataset, 320, kind="stream").chunks[0]
    one, same_seed, other = (Worker.build(replace(JOB, seed=seed)) for seed in (0, 0, 1))
    mine, again, theirs = one.run(chunk), same_seed.run(chunk), other.run(chunk)
    assert same(mine, again)
    assert not np.array_equal(mine.logits, theirs.logits)
    # Records stay in the dataset's order, so that rows can be paired.
    names = [one.dataset.sample_id(index) for index in chunk.indices]
    assert mine.sample_id == theirs.sample_id == names


def test_online_and_episodic_rows_are_paired_by_sample(run_json, ttt):
    run_json("-m", "running-mean", "-m", "clip-zero-shot", "--limit", "64")
    code, out, err = ttt("compare")
    assert code == 0, err
    assert "running-mean" in out


def test_the_kit_asks_no_reset_of_an_online_method():
    checks = {str(check): check for check in adapter_checks("running-mean")}
    assert checks["a-b-a"]().skipped
    assert checks["attributes-restored"]().skipped
    assert not checks["labels-unreachable"]().skipped
    assert not checks["backbone-untouched"]().skipped


def test_an_online_method_without_a_batch_size_is_refused():
    with pytest.raises(UserError, match="needs a batch_size"):
        Worker.build(replace(JOB, method="no-batch-size", config={}))
