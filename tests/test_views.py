"""View sets: the same views for every method that names one, and their features computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop

import ttt_bench
from tests.records_equal import records_equal
from ttt_bench import (
    Adapter,
    AdapterConfig,
    AdapterSpec,
    AugMixViews,
    CropViews,
    Inputs,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    ViewSet,
)
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.engine.loading import load_backbone
from ttt_bench.engine.task import CachingTask
from ttt_bench.runs.folder import RunFolder
from ttt_bench.toolkit.seeded import seeded

VIEWS = AugMixViews(6)
SEEN: dict[str, list[torch.Tensor]] = {}
EVERYTHING = ("-d", "cifar10-c-mini", "--limit", 20, "--device", "cpu")


class OfFeatures(Adapter[AdapterConfig]):
    """A method that looks at the features of views."""

    def inputs(self, task: Task) -> Inputs:
        return Inputs(image_features=False, view_features=(VIEWS,))

    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> list[Prediction]:
        features = self.task.encode_views(samples, rngs, VIEWS)
        SEEN.setdefault("features", []).append(features)
        return [Prediction(logits) for logits in self.task.logits(features.mean(dim=1))]


class OfPixels(Adapter[AdapterConfig]):
    """A method that looks at the pixels of the same views."""

    def inputs(self, task: Task) -> Inputs:
        return Inputs(image_features=False, view_pixels=(VIEWS,))

    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> list[Prediction]:
        predictions = []
        for sample, rng in zip(samples, rngs, strict=True):
            pixels = self.task.view_pixels(sample, rng, VIEWS)
            SEEN.setdefault("pixels", []).append(pixels)
            features = self.task.encode_pixels(pixels, len(pixels))
            predictions.append(Prediction(self.task.logits(features.mean(dim=0))))
        return predictions


@pytest.fixture
def both():
    """Register two methods that name the same view set."""
    SEEN.clear()
    specs = [
        AdapterSpec(name=name, summary="looks at views", code=f"{__name__}:{kind}")
        for name, kind in (("of-features", "OfFeatures"), ("of-pixels", "OfPixels"))
    ]
    with ttt_bench.registered(adapters=specs):
        yield


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(load_backbone("tiny-clip", "cpu"), Cifar10CMini("", None).classes)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    dataset = Cifar10CMini("", None)
    return [Sample(f"s{index}", dataset.open(index)) for index in range(2)]


@pytest.mark.parametrize("view_set", [CropViews(8), AugMixViews(8)])
def test_views_are_a_samples_own(task: Task, samples: list[Sample], view_set: ViewSet):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]
    first = task.view_pixels(samples[0], SampleRNG(0, "s0"), view_set)
    task.view_pixels(samples[1], SampleRNG(0, "s1"), view_set)
    again = task.view_pixels(samples[0], SampleRNG(0, "s0"), view_set)
    other = task.view_pixels(samples[0], SampleRNG(1, "s0"), view_set)
    assert torch.equal(first, again)
    assert torch.equal(first[0], task.backbone.preprocess(samples[0].image))
    assert not torch.equal(first[1:], other[1:])
    assert len({view.sum().item() for view in first}) == 8
    # Nobody else's random numbers were used.
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])


def test_crops_are_torchvisions(task: Task, samples: list[Sample]):
    rng, size = SampleRNG(3, "s0"), task.backbone.image_size
    views = task.view_pixels(samples[0], rng, CropViews(3, scale=(0.5, 0.9)))
    crop = Compose([RandomResizedCrop(size, (0.5, 0.9)), RandomHorizontalFlip()])
    with seeded(rng.torch("views").initial_seed()):
        expected = [task.backbone.preprocess(crop(samples[0].image)) for _ in range(2)]
    assert torch.equal(views[1:], torch.stack(expected))


def test_augmix_is_a_mixture(task: Task, samples: list[Sample]):
    rng, view_set = SampleRNG(3, "s0"), AugMixViews(3)
    drawn = view_set.draw(samples[0].image, rng, task.backbone.image_size)
    assert len(drawn.images) == view_set.images == 1 + 2 * 4
    floats = [task.backbone.preprocess(image) for image in drawn.images]
    numbers = drawn.numbers
    for view in range(2):
        plain, *chains = floats[1 + 4 * view : 5 + 4 * view]
        mixed = sum(float(w) * c for w, c in zip(numbers["weights"][view], chains, strict=True))
        blend = float(numbers["blends"][view])
        torch.testing.assert_close(
            task.view_pixels(samples[0], rng, view_set)[1 + view],
            blend * plain + (1 - blend) * mixed,
        )


def test_two_methods_that_name_a_view_set_get_identical_views(both, run_json):
    run_json(*EVERYTHING, "-m", "of-features", "-m", "of-pixels", "--no-feature-cache")
    task = CachingTask(load_backbone("tiny-clip", "cpu"), Cifar10CMini("", None).classes)
    # Two samples of the probe, whose rounding is another, and the run.
    features = torch.cat(SEEN["features"][2:])
    pixels = SEEN["pixels"][2:]
    assert len(features) == len(pixels) == 20
    for ours, theirs in zip(features, pixels, strict=True):
        assert torch.equal(ours, task.encode_pixels(theirs, len(theirs)))


def test_a_view_set_is_on_the_card(both, run_json):
    (run,) = run_json(*EVERYTHING, "-m", "of-features")
    part = RunFolder(Path(run["path"])).card().method
    assert part["view_sets"] == [{"views": "AugMixViews", "count": 6, "scale": [0.08, 1.0]}]
    (run,) = run_json(*EVERYTHING, "-m", "clip-zero-shot")
    assert RunFolder(Path(run["path"])).card().method["view_sets"] == []


@dataclass(frozen=True)
class Rotated(ViewSet):
    """A view set of a plugin's own."""

    count: int = 4

    def draw(self, image: Image.Image, rng: SampleRNG, side: int) -> ttt_bench.DrawnViews:
        return ttt_bench.DrawnViews([image.rotate(90 * turn) for turn in range(self.count)])


def test_a_view_set_of_ones_own(task: Task, samples: list[Sample]):
    rngs = [SampleRNG(0, sample.id) for sample in samples]
    features = task.encode_views(samples, rngs, Rotated())
    assert features.shape == (2, 4, task.backbone.feature_dim)
    assert Rotated().card() == {"views": "Rotated", "count": 4}


def test_methods_on_the_same_views_share_their_features(run_json, records_of, monkeypatch):
    """With the features there, no image is decoded, no view made and no tower run."""
    methods = ("-m", "tpt", "-m", "tpt-coop", "--set", "views=12")
    apart = run_json(*EVERYTHING, *methods, "--no-feature-cache", "-o", "apart")
    run_json(*EVERYTHING, "-m", "tpt", "--set", "views=12", "-o", "first")
    calls: dict[str, int] = {}

    def count(owner: type, name: str) -> None:
        function = getattr(owner, name)

        def counting(*arguments, **named):
            calls[name] = calls.get(name, 0) + 1
            return function(*arguments, **named)

        monkeypatch.setattr(owner, name, counting)

    count(type(load_backbone("tiny-clip", "cpu")), "encode_image")
    count(CropViews, "draw")
    second = run_json(*EVERYTHING, *methods, "-o", "second")
    # The backbone's own start, and the first views of each method, compared with the cached ones.
    assert calls == {"encode_image": 1 + 2, "draw": 2}
    for one, other in zip(apart, second, strict=True):
        assert records_equal(records_of(one), records_of(other))
        for count_ in ("gflops_per_sample", "peak_memory_mb", "parameters_updated"):
            assert one["cost"][count_] == other["cost"][count_]
