"""Labels stay with the engine, randomness with the sample, and cards say what may be compared."""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from tests.worker_specs import worker_spec
from ttt_bench.api.adapter import Adapter, AdapterConfig
from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.dataset import Entry, spread_sample
from ttt_bench.api.errors import UserError
from ttt_bench.api.sample import Prediction, SampleRNG
from ttt_bench.api.specs import AdapterSpec
from ttt_bench.api.task import Task
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.datasets.image_folder import ImageFolder
from ttt_bench.engine.loading import load_backbone
from ttt_bench.engine.worker import MethodWorker
from ttt_bench.runs.card import Card, protocol_part, read_card
from ttt_bench.runs.plan import make_plan


def worker_of(adapter: Callable[[AdapterConfig], Adapter], dataset, monkeypatch) -> MethodWorker:
    """A worker whose method is the given class, whatever its spec says."""
    monkeypatch.setattr(AdapterSpec, "load", lambda self: adapter)
    return MethodWorker(worker_spec("clip-zero-shot"), dataset, load_backbone("tiny-clip", "cpu"))


def reachable(*roots: object) -> list[object]:
    """Everything that can be reached from objects without going through code and modules."""
    seen: dict[int, object] = {}
    waiting = list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType):
            continue
        seen[id(thing)] = thing
        waiting += gc.get_referents(thing)
    return list(seen.values())


def test_a_method_that_looks_for_labels_finds_none(tmp_path: Path, monkeypatch):
    for name in ("a_class_called_zebra", "a_class_called_quagga"):
        (tmp_path / name).mkdir()
        for number in range(3):
            image = Image.new("RGB", (32, 32), (number, 0, 0))
            image.save(tmp_path / name / f"{number}.png")
    dataset = ImageFolder(str(tmp_path), None)
    found: list[object] = []

    class Spy(Adapter[AdapterConfig]):
        def adapt(self, samples, rngs):
            found.extend(reachable(list(samples), list(rngs), vars(self)))
            assert all(
                set(dir(sample)) & {"label", "target", "group"} == set() for sample in samples
            )
            assert all(not hasattr(sample.image, "filename") for sample in samples)
            return [Prediction(self.task.logits(f)) for f in self.task.encode_image(samples)]

    worker = worker_of(Spy, dataset, monkeypatch)
    worker.run(make_plan(dataset, None).chunks[0])
    assert len(found) > 100
    assert not [thing for thing in found if isinstance(thing, Entry | ImageFolder | MethodWorker)]
    # The names of the classes are the task's; the path of a file, which ends in one, is nobody's.
    paths = [thing for thing in found if isinstance(thing, str) and "a_class_called" in thing]
    assert not paths


def test_permuted_labels_change_no_prediction(monkeypatch):
    dataset = Cifar10CMini("", None)
    backbone = load_backbone("tiny-clip", "cpu")
    chunk = make_plan(dataset, 20).chunks[0]
    before = MethodWorker(worker_spec("clip-zero-shot"), dataset, backbone).run(chunk)
    dataset.entries = [Entry(e.key, e.group, 9 - e.label) for e in dataset.entries]
    after = MethodWorker(worker_spec("clip-zero-shot"), dataset, backbone).run(chunk)
    assert np.array_equal(before.logits, after.logits)
    assert np.array_equal(before.label, 9 - after.label)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda logits: [Prediction(logits[0])], "returned 1 predictions for 4 samples"),
        (lambda logits: [Prediction(row[:3]) for row in logits], r"shape \[3\]"),
        (lambda logits: [Prediction(row * torch.nan) for row in logits], "not finite"),
        # While tests run, jaxtyping sees this one first.
        (lambda logits: [Prediction(row, row[None, :2]) for row in logits], "TypeCheckError"),
        (lambda logits: [Prediction(row, torch.eye(10)) for row in logits], "last step"),
        (lambda logits: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_faulty_method_is_named(wrong, message: str, monkeypatch):
    class Faulty(Adapter[AdapterConfig]):
        def adapt(self, samples, rngs):
            return wrong(torch.zeros(len(samples), 10))

    dataset = Cifar10CMini("", None)
    worker = worker_of(Faulty, dataset, monkeypatch)
    with pytest.raises(UserError, match=message):
        worker.run(make_plan(dataset, 4).chunks[0])


def test_a_faulty_setup_is_named(monkeypatch):
    class Faulty(Adapter[AdapterConfig]):
        def setup(self, task):
            raise KeyError("weights")

        def adapt(self, samples, rngs):
            return []

    with pytest.raises(UserError, match="failed in its setup: KeyError"):
        worker_of(Faulty, Cifar10CMini("", None), monkeypatch)


def test_draws_differ_by_seed_sample_and_purpose():
    draws = {
        (seed, sample, purpose): torch.rand(
            1, generator=SampleRNG(seed, sample).torch(purpose)
        ).item()
        for seed in (0, 1)
        for sample in ("a", "b")
        for purpose in ("views", "weights")
    }
    assert len(set(draws.values())) == len(draws)
    again = torch.rand(1, generator=SampleRNG(0, "a").torch("views")).item()
    assert again == draws[0, "a", "views"]
    numpy = SampleRNG(0, "a").numpy("views")
    assert numpy.random() == SampleRNG(0, "a").numpy("views").random()


def test_a_draw_leaves_the_global_generators_alone():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]
    SampleRNG(0, "a").torch("x").seed()
    SampleRNG(0, "a").numpy("x").random()
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])


def test_classifiers_keep_leading_shapes():
    classes = ClassSet(("cat", "dog"), "a {}", ("a {}", "the {}"))
    task = Task(load_backbone("tiny-clip", "cpu"), classes)
    features = torch.randn(3, 5, 128)
    assert task.logits(features).shape == (3, 5, 2)
    torch.testing.assert_close(task.logits(features)[1, 2], task.logits(features[1, 2]))
    assert not torch.equal(
        task.build_classifier(classes.templates)(features), task.logits(features)
    )


@pytest.mark.parametrize("limit", [1, 7, 16, 60, 100, 3199, 3200, 5000, None])
def test_limit_spreads_evenly(limit: int | None):
    entries = Cifar10CMini("", None).entries
    chosen = spread_sample(entries, limit)
    assert len(chosen) == len(set(chosen)) == min(limit or 3200, 3200)
    assert chosen == sorted(chosen)
    counts = [sum(entries[i].group == g for i in chosen) for g in {e.group for e in entries}]
    assert max(counts) - min(counts) <= 1


def test_small_limits_see_different_photographs():
    entries = Cifar10CMini("", None).entries
    photographs = {entries[i].key.split("/")[1] for i in spread_sample(entries, 60)}
    assert len(photographs) > 35


def card(**changes: object) -> Card:
    dataset = Cifar10CMini("", None)
    protocol = protocol_part(dataset, [0, 1, 2], 3, 0)
    return Card({**protocol, **changes}, {"method": "apm", "config": {"steps": 20}})


def test_fingerprint_covers_the_protocol_part_alone():
    other_method = Card(card().protocol, {"method": "tpt", "config": {"steps": 1}})
    assert other_method.fingerprint == card().fingerprint
    assert other_method.key != card().key
    assert other_method.first_difference(card()) == "method: tpt here, apm there"
    for field in card().protocol:
        changed = card(**{field: "something else"})
        assert changed.fingerprint != card().fingerprint
        assert str(changed.first_difference(card())).startswith(f"{field}: something else here")
    assert card().first_difference(card()) is None


def test_nested_difference_is_named():
    twenty, ten = card(), Card(card().protocol, {"method": "apm", "config": {"steps": 10}})
    assert ten.first_difference(twenty) == "config.steps: 10 here, 20 there"


def test_any_edited_character_of_a_card_is_seen():
    one = card()
    parts = one.as_json()
    stored = {"digests": one.digests, "fingerprint": one.fingerprint, "key": one.key}
    assert read_card({"card": parts, **stored}, "here").key == one.key
    for part, fields in parts.items():
        for name, value in fields.items():
            text = json.dumps(value)
            for place, old in enumerate(text):
                try:
                    new = json.loads(
                        f"{text[:place]}{'7' if old != '7' else '8'}{text[place + 1 :]}"
                    )
                except ValueError:
                    continue
                edited = {**parts, part: {**fields, name: new}}
                with pytest.raises(UserError, match=f"here: {part}.{name}.* was edited"):
                    read_card({"card": edited, **stored}, "here")
            without = {n: v for n, v in fields.items() if n != name}
            with pytest.raises(UserError, match=f"here: {part}.{name} was edited"):
                read_card({"card": {**parts, part: without}, **stored}, "here")
    for name in ("fingerprint", "key"):
        with pytest.raises(UserError, match=f"here: {name} was edited"):
            read_card({"card": parts, **stored, name: "0"}, "here")
