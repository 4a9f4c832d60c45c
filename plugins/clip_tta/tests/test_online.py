"""The caches keep what they should, and a batch is walked as its samples would be alone."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from ttt_bench_clip_tta import presets
from ttt_bench_clip_tta.cache import ClassCache
from ttt_bench_clip_tta.methods.boostadapter import Boosters, most_certain
from ttt_bench_clip_tta.walk import Seen
from typing_extensions import override

from ttt_bench import Sample, SampleRNG, Task, ViewSet
from ttt_bench.registry import registry
from ttt_bench.runner.settings import resolve_config

CPU = torch.device("cpu")
METHODS = ("tda", "boostadapter", "dpe", "dmn", "onzeta", "ecalp")
SAMPLES, VIEWS, CLASSES, DIM = 12, 10, 4, 8


def cache_of(entropies: list[float], capacity: int, newest: bool = False) -> ClassCache:
    """Return a cache that was given items of one class; an item's feature is its number."""
    cache = ClassCache(2, capacity, CPU, feature=1)
    for number, entropy in enumerate(entropies):
        add = cache.add_newest if newest else cache.add_certain
        add(1, entropy, feature=torch.tensor([float(number)]))
    return cache


def numbers(cache: ClassCache) -> list[int]:
    """Return the numbers of the items, in the order of their places."""
    return cache.features[cache.filled[:, 1], 1, 0].int().tolist()


def test_a_class_keeps_its_most_certain_items_and_the_older_of_equal_ones():
    assert numbers(cache_of([0.5, 0.25], 3)) == [1, 0]
    assert numbers(cache_of([0.5, 0.25, 0.75, 0.75], 3)) == [1, 0, 2]
    assert numbers(cache_of([0.5, 0.25, 0.75, 0.5], 3)) == [1, 0, 3]
    assert not cache_of([0.5], 3).filled[:, 0].any()


def test_a_class_that_keeps_the_newest_items_gives_up_the_oldest():
    assert numbers(cache_of([0.1, 0.5, 0.3], 2, newest=True)) == [1, 2]


def test_an_empty_place_has_no_affinity():
    cache = ClassCache(2, 3, CPU, feature=2)
    feature = torch.tensor([1.0, 0.0])
    assert cache.affinities(feature, 5.0).shape == (0, 2)
    cache.add_certain(1, 0.5, feature=feature)
    assert cache.affinities(feature, 5.0).tolist() == [[0, 1]]


def test_boosters_take_places_as_in_a_sorted_list():
    draw = torch.Generator().manual_seed(0)
    # Few values, so that entropies are often equal.
    entropies = torch.randint(0, 4, (40,), generator=draw).float()
    classes = torch.randint(0, 2, (40,), generator=draw).tolist()
    cache = ClassCache(2, 3, CPU, feature=1)
    lists: list[list[tuple[float, str]]] = [[], []]
    for label, entropy in zip(classes[:10], entropies[:10].tolist(), strict=True):
        cache.add_certain(label, entropy, feature=torch.zeros(1))
    for label in range(2):
        lists[label] = [(entropy, "item") for entropy in cache.entropies[:, label].tolist()]
    own, order = entropies[10:16].sort(stable=True)
    labels = torch.tensor(classes[10:16])[order]
    kept, kept_boosters = most_certain(cache, Boosters(torch.zeros(6, 1), own, labels), 4)
    for label in range(2):
        of_class = [(entropy, "own") for entropy in own[labels == label].tolist()]
        # Python's sort leaves equal ones in their order.
        first = sorted(lists[label] + of_class, key=lambda item: item[0])[:4]
        assert sum(kind == "item" for _, kind in first) == kept[:, label].sum()
        assert sum(kind == "own" for _, kind in first) == kept_boosters[labels == label].sum()


class FeaturesGiven(Task):
    """A task whose features are drawn, without a backbone."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(1)
        common = torch.randn(DIM, generator=draw)
        self.text = F.normalize(torch.randn(CLASSES, DIM, generator=draw) + 2 * common, dim=1)
        self.views = torch.randn(SAMPLES, VIEWS, DIM, generator=draw) + 2 * common
        self.augmix = False

    @override
    def encode_views(
        self, samples: Sequence[Sample], rngs: Sequence[SampleRNG], view_set: ViewSet
    ) -> Tensor:
        return self.views[[int(sample.id) for sample in samples]]

    @override
    def encode_image(self, samples: Sequence[Sample]) -> Tensor:
        return self.views[[int(sample.id) for sample in samples], 0]


def predictions(method: str, size: int) -> Tensor:
    """Return what a method predicts along a stream, in batches of this size."""
    kind = registry().adapters[method].spec.load()
    # A memory of few places, so that items are replaced.
    few = {"onzeta": {"length": SAMPLES}, "ecalp": {"image_neighbours": 3}}
    adapter = kind(kind.Config(**few.get(method, {"capacity": 1, "views": VIEWS})))
    task = FeaturesGiven()
    adapter.task, adapter.text, adapter.scale = task, task.text, 50.0
    adapter.begin()
    image = Image.new("RGB", (1, 1))
    samples = [Sample(str(number), image) for number in range(SAMPLES)]
    rngs = [SampleRNG(0, sample.id) for sample in samples]
    batches = [slice(start, start + size) for start in range(0, SAMPLES, size)]
    return torch.stack(
        [one.logits for batch in batches for one in adapter.adapt(samples[batch], rngs[batch])]
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_size_of_a_batch_changes_no_prediction(method: str):
    alone = predictions(method, 1)
    assert alone.shape == (SAMPLES, CLASSES)
    assert torch.equal(predictions(method, 5), alone)
    assert torch.equal(predictions(method, SAMPLES), alone)


@pytest.mark.parametrize("method", METHODS)
def test_presets_are_of_datasets_that_exist_and_are_accepted(method: str):
    spec = registry().adapters[method].spec
    assert set(spec.dataset_presets) <= set(registry().datasets)
    for dataset, values in spec.dataset_presets.items():
        config = resolve_config(spec, "tiny-clip", dataset, {})
        assert {name: config[name] for name in values} == values
        assert spec.dataset_preset_card(dataset, config)["values"] == values


def test_presets_name_the_papers_datasets():
    assert len(presets.tda()) == len(presets.boostadapter()) == len(presets.dpe()) == 15
    assert presets.boostadapter()["imagenet"] == {"alpha": 2.0, "beta": 5.0, "views": 1}
    assert presets.tda()["dtd"]["views"] == presets.dpe()["dtd"]["views"] == 1
    assert "views" not in presets.tda()["imagenet-a"]


def test_bounds_of_negative_entropies_are_in_units_of_bits():
    method = registry().adapters["tda"].spec.load()
    adapter = method(method.Config())
    even = torch.full((CLASSES,), 1 / CLASSES)
    seen = [Seen(torch.ones(DIM), even, even, entropy, 0) for entropy in (0.39, 0.41, 0.99, 1.01)]
    # Bounds of 0.2 and 0.5 for 4 classes, whose largest entropy is 2 bits.
    assert [adapter.is_uncertain(one) for one in seen] == [False, True, True, False]
