"""Methods of kind batch and stream get batches of their own, in an order drawn from the seed."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import Field

from tests import streaming_methods
from tests.records_equal import records_equal
from ttt_bench import Adapter, AdapterConfig, AdapterSpec, Prediction
from ttt_bench.registry import registered
from ttt_bench.runs.plan import make_plan

SPEC = replace(streaming_methods.SPEC, method="running-mean", config={"batch_size": 5})


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


class BatchMean(Adapter[RunningMeanConfig]):
    """Classifies what of a feature is left without the mean of its batch."""

    Config = RunningMeanConfig

    def adapt(self, samples, rngs):
        features = self.task.encode_image(samples)
        return [Prediction(self.task.logits(f - 0.5 * features.mean(0))) for f in features]


class NoBatchSize(RunningMean):
    Config = AdapterConfig


SPECS = [
    AdapterSpec(name=name, summary="", code=f"tests.test_online:{code}", kind=kind)
    for name, code, kind in (
        ("running-mean", "RunningMean", "stream"),
        ("batch-mean", "BatchMean", "batch"),
        ("no-batch-size", "NoBatchSize", "stream"),
    )
]


@pytest.fixture(autouse=True)
def methods() -> Iterator[None]:
    with registered(adapters=SPECS):
        yield


def test_a_chunk_of_a_stream_method_is_a_whole_stream_set_up_anew():
    worker = SPEC.build()
    plan = make_plan(worker.dataset, 96, "stream", batch_size=5)
    entries = worker.dataset.entries
    groups = [{entries[index].group for index in chunk.indices} for chunk in plan.chunks]
    assert [len(group) for group in groups] == [1] * 16
    assert len(set.union(*groups)) == 16
    first = [worker.run(chunk) for chunk in plan.chunks[:3]]
    # Six samples in batches of the configuration, not of --batch-size.
    assert worker.adapter.batches == [5, 1]
    # Streams do not depend on one another, in whatever order they run.
    again = replace(SPEC, batch_size=1).build()
    for chunk, records in zip(plan.chunks[2::-1], first[::-1], strict=True):
        assert records_equal(again.run(chunk), records)


def test_the_order_within_a_stream_is_the_seeds():
    worker = SPEC.build()
    one, same_seed, other = (
        make_plan(worker.dataset, 320, "stream", seed, 5).chunks[0] for seed in (0, 0, 1)
    )
    assert one == same_seed
    assert one.indices == other.indices
    assert one.batches != other.batches
    first, second = worker.run(one), worker.run(other)
    assert not np.array_equal(first.logits, second.logits)
    # Records stay in the dataset's order, so that rows can be paired.
    names = [worker.dataset.sample_id(index) for index in one.indices]
    assert first.sample_id == second.sample_id == names


def test_a_batch_method_gets_the_same_batches_whatever_the_batch_size_option():
    spec = replace(SPEC, method="batch-mean")
    worker = spec.build()
    plan = make_plan(worker.dataset, 96, "batch", batch_size=5)
    assert all(len(batch) in (5, 1) for chunk in plan.chunks for batch in chunk.batches)
    assert sorted(index for chunk in plan.chunks for index in chunk.indices) == plan.indices
    other = replace(spec, batch_size=1).build()
    for chunk in plan.chunks[:2]:
        assert records_equal(worker.run(chunk), other.run(chunk))


def test_online_and_episodic_rows_are_paired_by_sample(run_json, ttt):
    run_json("-m", "running-mean", "-m", "batch-mean", "-m", "clip-zero-shot", "--limit", "64")
    code, out, err = ttt("compare")
    assert code == 0, err
    assert "running-mean" in out
    assert "batch-mean" in out


def test_an_online_method_without_a_batch_size_is_refused(ttt):
    code, out, err = ttt("run", "-m", "no-batch-size", "-d", "cifar10-c-mini")
    assert (code, out) == (2, "")
    assert "needs a field batch_size" in err
