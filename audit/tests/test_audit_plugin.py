"""The audit's variants of APM differ from it where they should, and a reversed dataset in order."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.records_equal import records_equal
from ttt_bench import (
    Adapter,
    DatasetSpec,
    Sample,
    SampleRNG,
    Task,
    load_backbone,
    load_dataset,
    registered,
)
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.engine.state.packed import EncodedState, unpack
from ttt_bench.registry import registry
from ttt_bench.runner.settings import resolve_config
from ttt_bench.runs.folder import RunFolder

STEPS = 4


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(load_backbone("tiny-clip", "cpu"), Cifar10CMini("", None).classes)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    dataset = Cifar10CMini("fog", None)
    return [Sample(dataset.sample_id(i), dataset.open(i)) for i in range(4)]


def set_up(method: str, task: Task, **settings: object) -> Adapter[Any]:
    spec = registry().adapters[method].spec
    values = resolve_config(spec, "tiny-clip", "", {"steps": STEPS, **settings})
    kind = spec.load()
    adapter = kind(kind.Config(**values))
    adapter.setup(task)
    return adapter


def steps_of(adapter: Adapter[Any], samples: Sequence[Sample]) -> list[Tensor]:
    """Return the logits of each sample after every step."""
    rngs = [SampleRNG(0, sample.id) for sample in samples]
    predictions = adapter.adapt(samples, rngs)
    kept = [one.step_logits for one in predictions if one.step_logits is not None]
    assert len(kept) == len(samples)
    return kept


def test_kept_moments_are_apm_on_the_first_image_and_depend_on_what_came_before(
    task: Task, samples: list[Sample]
):
    plain = steps_of(set_up("apm", task), samples[:2])
    first, second = steps_of(set_up("apm-kept-moments", task), samples[:2])
    assert torch.equal(first, plain[0])
    assert not torch.equal(second, plain[1])
    _, after_another = steps_of(set_up("apm-kept-moments", task), [samples[2], samples[1]])
    assert not torch.equal(second, after_another)


def test_kept_moments_without_moments_and_schedule_are_apm(task: Task, samples: list[Sample]):
    """So the moments and the schedule are all that the variant keeps."""
    adapter = set_up("apm-kept-moments", task)
    for sample, expected in zip(samples, steps_of(set_up("apm", task), samples), strict=True):
        for optimizer in adapter.optimizers:
            optimizer.state.clear()
        adapter.steps_made = 0
        assert torch.equal(steps_of(adapter, [sample])[0], expected)


def test_the_schedule_goes_on_from_image_to_image(task: Task, samples: list[Sample]):
    adapter = set_up("apm-kept-moments", task, lr=0.5, decay=0.1, decay_every=2 * STEPS)
    rates = []
    for sample in samples:
        steps_of(adapter, [sample])
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in adapter.optimizers])
    assert rates == [pytest.approx([rate] * len(rates[0])) for rate in (0.5, 0.5, 0.05, 0.05)]


def test_kept_moments_go_on_from_a_saved_state_bit_for_bit(task: Task, samples: list[Sample]):
    settings = {"decay_every": STEPS}
    adapter = set_up("apm-kept-moments", task, **settings)
    steps_of(adapter, samples[:2])
    saved = EncodedState(adapter).pack()
    expected = steps_of(adapter, samples[2:])
    restored = set_up("apm-kept-moments", task, **settings)
    unpack(restored, task, saved)
    for again, before in zip(steps_of(restored, samples[2:]), expected, strict=True):
        assert torch.equal(again, before)


def test_added_gradients_differ_from_apm_after_the_second_step(task: Task, samples: list[Sample]):
    plain = steps_of(set_up("apm", task), samples)
    added = steps_of(set_up("apm-added-gradients", task), samples)
    for one, other in zip(added, plain, strict=True):
        assert torch.equal(one[0], other[0])
        assert all(not torch.equal(one[step], other[step]) for step in range(1, STEPS))


def test_the_audits_methods_have_the_presets_of_apm():
    apm = registry().adapters["apm"].spec
    variants = [
        item.spec
        for item in registry().adapters.values()
        if item.plugin.distribution == "ttt-bench-audit"
    ]
    assert len(variants) == 3
    assert all(spec.presets == apm.presets for spec in variants)
    assert all(spec.summary.startswith("for the audit, not for use: ") for spec in variants)


class Few(Cifar10CMini):
    """Six images."""

    def __init__(self, argument: str, data_root: Path | None) -> None:
        super().__init__("fog", data_root)
        self.name = "few"
        self.entries = self.entries[:6]


@pytest.fixture
def few() -> Iterator[None]:
    spec = DatasetSpec(
        name="few", summary="", code="few:Few", given=Few, source="a test", licence="none"
    )
    with registered(datasets=[spec]):
        yield


def test_a_reversed_dataset_has_the_same_images_in_reverse_order():
    plain, backwards = (
        load_dataset("cifar10-c-mini:fog"),
        load_dataset("reversed:cifar10-c-mini:fog"),
    )
    count = len(plain.entries)
    assert [*backwards.entries] == [*plain.entries][::-1]
    for index in (0, 1, count - 1):
        there = count - 1 - index
        assert backwards.sample_id(index) == plain.sample_id(there)
        assert np.array_equal(backwards.open(index), plain.open(there))
    assert backwards.classes is plain.classes
    assert np.array_equal(backwards.open_training(1), plain.open_training(1))


@pytest.mark.usefixtures("few")
def test_an_episodic_method_gives_the_same_records_in_reverse_order_and_a_leaking_one_does_not(ttt):
    methods = ("clip-zero-shot", "apm", "apm-leaking")
    words = [word for name in methods for word in ("-m", name)]
    words += ["-b", "tiny-clip", "--device", "cpu", "-o", "runs"]
    words += ["--set", f"apm.steps={STEPS}", "--set", f"apm-leaking.steps={STEPS}"]
    for dataset in ("few", "reversed:few"):
        code, _, err = ttt("run", "-d", dataset, *words)
        assert code == 0, err
    for method in methods:
        plain, backwards = (
            RunFolder(Path("runs/few") / method),
            RunFolder(Path("runs/reversed-few") / method),
        )
        assert plain.card().fingerprint == backwards.card().fingerprint
        assert plain.card().key != backwards.card().key
        records = plain.read_records()
        again = backwards.read_records().in_order_of(records.sample_id)
        assert records_equal(records, again) == (method != "apm-leaking")
