"""Loader processes: the same records, in order, and no process left over."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.records_equal import records_equal
from ttt_bench.api.errors import UserError
from ttt_bench.backbones.open_clip import OpenClipBackbone
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.engine.loading import load_backbone
from ttt_bench.features import loader as loading
from ttt_bench.features.cache import image_name
from ttt_bench.features.loader import SampleLoader
from ttt_bench.features.task import CachingTask, PrefetchedSample

METHODS = ("-m", "clip-zero-shot", "-m", "apm", "--set", "apm.image_size=64")
SETTINGS = ("--limit", 40, "--batch-size", 9, "--no-feature-cache", "--set", "steps=2")


@pytest.fixture
def loader():
    loader = SampleLoader(Cifar10CMini("", None), load_backbone("tiny-clip", "cpu"), 2)
    yield loader
    loader.close()


def test_records_are_the_same(run_json, records_of):
    here = run_json(*METHODS, *SETTINGS, "--output", "here")
    elsewhere = run_json(*METHODS, *SETTINGS, "--loaders", 2, "--output", "elsewhere")
    for one, other in zip(here, elsewhere, strict=True):
        assert records_equal(records_of(one), records_of(other))
    assert not multiprocessing.active_children()


def test_samples_come_in_order_with_their_pixels(loader: SampleLoader):
    dataset, backbone = loader.dataset, loader.backbone
    expected = [5, 3, 8, 1900, 0, 7, 2]
    state = torch.get_rng_state()
    loader.announce(expected)
    (first, unreadable), (second, also) = (
        loader.load(indices, sizes)
        for indices, sizes in ((expected[:2], ()), (expected[2:], (None, 64)))
    )
    assert not unreadable
    assert not also
    assert torch.equal(state, torch.get_rng_state())
    assert not any(sample.pixels for sample in first)
    for index, sample in zip(expected, first + second, strict=True):
        assert sample.id == dataset.sample_id(index)
        assert sample.image.tobytes() == dataset.open(index).tobytes()
        assert sample.digest == image_name(sample.image)
    for sample in second:
        for size in (None, 64):
            pixels, seconds = sample.pixels[size]
            assert torch.equal(pixels, backbone.preprocess(sample.image, size))
            assert seconds > 0
    loader.close()
    assert not multiprocessing.active_children()


def test_an_entry_out_of_turn_is_decoded_here(loader: SampleLoader):
    loader.announce([0, 1, 2, 3])
    batches = ([0], [1], [9], [2, 3])
    ids = [sample.id for indices in batches for sample in loader.load(indices, ())[0]]
    assert ids == [loader.dataset.sample_id(index) for index in (0, 1, 9, 2, 3)]


def test_the_method_transforms_nothing_itself_from_the_second_batch_on(run_json, monkeypatch):
    here: list[int | None] = []
    preprocess = OpenClipBackbone.preprocess

    def counting(self, image, size=None):
        here.append(size)
        return preprocess(self, image, size)

    monkeypatch.setattr(OpenClipBackbone, "preprocess", counting)
    run_json("-m", "apm", *SETTINGS, "--set", "image_size=64", "--loaders", 1)
    # Two samples of the probe and the first nine, at both sizes.
    assert sorted(here, key=str) == [64] * 11 + [None] * 11


def test_prefetched_pixels_are_used_and_their_time_is_booked():
    dataset, backbone = Cifar10CMini("", None), load_backbone("tiny-clip", "cpu")
    task = CachingTask(backbone, dataset.classes)
    sample = PrefetchedSample("a", dataset.open(0))
    sample.pixels[64] = torch.ones(3, 64, 64), 5.0
    assert torch.equal(task.pixels([sample], 64)[0], torch.ones(3, 64, 64))
    assert task.pop_saved_seconds() == 5.0
    assert task.pop_saved_seconds() == 0.0
    assert torch.equal(task.pixels([sample])[0], backbone.preprocess(sample.image))
    other = replace(sample, image=dataset.open(1))
    assert torch.equal(task.pixels([other], 64)[0], backbone.preprocess(other.image, 64))
    assert set(task.requested_sizes()) == {64, None}


def test_an_unreadable_image_is_named(ttt, tmp_path: Path):
    draws = np.random.default_rng(0)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for number in range(40):
        image = Image.fromarray(draws.integers(0, 255, (32, 32, 3), np.uint8))
        image.save(tmp_path / "photos" / "a" / f"{number:02}.png")
    whole = (tmp_path / "photos" / "a" / "30.png").read_bytes()
    (tmp_path / "photos" / "a" / "30.png").write_bytes(whole[:100])
    options = ("-b", "tiny-clip", "--loaders", 2, "--batch-size", 4, "--device", "cpu")
    code, _, err = ttt("run", "-m", "source", "-d", "imagefolder:photos", *options)
    assert code == 2
    assert "Traceback" not in err
    assert [line for line in err.splitlines() if "30.png: not a readable image" in line]
    assert not multiprocessing.active_children()


def test_systems_that_cannot_fork_are_told(monkeypatch):
    monkeypatch.setattr(loading.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    dataset, backbone = Cifar10CMini("", None), load_backbone("tiny-clip", "cpu")
    with pytest.raises(UserError, match="--loaders"):
        SampleLoader(dataset, backbone, 1)
    samples, unreadable = SampleLoader(dataset, backbone, 0).load([0], ())
    assert [sample.id for sample in samples] == [dataset.sample_id(0)]
    assert not unreadable
