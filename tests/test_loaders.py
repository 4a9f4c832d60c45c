"""Loader processes: the same records, in order, within their memory, and no process left over."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.records_equal import records_equal
from ttt_bench.api.errors import UserError
from ttt_bench.api.inputs import Inputs, NormalDraw
from ttt_bench.api.sample import SampleRNG
from ttt_bench.backbones.open_clip import OpenClipBackbone
from ttt_bench.cache.features import image_name
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.engine.loading import load_backbone
from ttt_bench.engine.task import CachingTask
from ttt_bench.preparation import pool as pools
from ttt_bench.preparation.arena import Arena
from ttt_bench.preparation.loader import SampleLoader
from ttt_bench.preparation.parts import Opened, Preparation, Views
from ttt_bench.preparation.pixels import PixelMaker
from ttt_bench.preparation.pool import LoaderPool
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.loaders import number_of_loaders
from ttt_bench.views import AugMixViews, CropViews

METHODS = (
    "-m",
    "clip-zero-shot",
    "-m",
    "apm",
    "-m",
    "tpt",
    "--set",
    "apm.image_size=64",
    "--set",
    "tpt.views=12",
)
SETTINGS = ("--limit", 40, "--batch-size", 9, "--no-feature-cache", "--set", "steps=2")
DRAW = NormalDraw("weights", (("a", (3, 5)), ("b", (40,))))
CROPS, AUGMIX = CropViews(5), AugMixViews(4)
INPUTS = Inputs(pixels=(64,), view_pixels=(CROPS, AUGMIX), draws=(DRAW,))
BATCHES = [(5, 3), (8, 1900, 0), (7, 2)]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny-clip", "cpu")


@pytest.fixture
def preparation(backbone) -> Preparation:
    return Preparation(Cifar10CMini("", None), PixelMaker(backbone), 7, INPUTS, {})


@pytest.fixture
def loader(preparation) -> Iterator[SampleLoader]:
    loader = SampleLoader(preparation, 2)
    yield loader
    loader.close()


@pytest.fixture
def task(loader) -> CachingTask:
    task = CachingTask(loader.preparation.pixel_maker.backbone, Cifar10CMini("", None).classes)
    task.use({}, loader)
    return task


def everything(task: CachingTask, loader: SampleLoader, batch: tuple[int, ...]) -> list[Any]:
    """Ask a task for everything that is declared for a batch."""
    samples, unreadable = loader.load(batch)
    assert not unreadable
    rngs = [SampleRNG(7, sample.id) for sample in samples]
    views = [
        task.view_pixels(sample, rng, view_set)
        for sample, rng in zip(samples, rngs, strict=True)
        for view_set in (CROPS, AUGMIX)
    ]
    drawn = [values for one in task.draw(rngs, DRAW) for values in one.values()]
    return [task.pixels(samples), task.pixels(samples, 64), *views, *drawn]


def test_records_are_the_same(run_json, records_of):
    here = run_json(*METHODS, *SETTINGS, "--output", "here")
    elsewhere = run_json(*METHODS, *SETTINGS, "--loaders", 2, "--output", "elsewhere")
    for one, other in zip(here, elsewhere, strict=True):
        assert records_equal(records_of(one), records_of(other))
    assert not multiprocessing.active_children()


def test_what_is_made_ahead_is_what_is_made_here(task, loader, preparation):
    alone = CachingTask(task.backbone, task.classes)
    here = SampleLoader(preparation, 0)
    state = torch.get_rng_state()
    loader.announce(BATCHES)
    for batch in BATCHES:
        for ahead, made in zip(
            everything(task, loader, batch), everything(alone, here, batch), strict=True
        ):
            assert torch.equal(ahead, made)
    assert torch.equal(state, torch.get_rng_state())
    # The time that loaders took is charged.
    assert task.pop_saved_seconds() > 0
    assert task.pop_saved_seconds() == 0
    loader.close()
    assert not multiprocessing.active_children()


def test_everything_declared_is_made_ahead_from_the_first_batch(loader):
    loader.announce(BATCHES)
    loader._pool.begin_batch()
    for part in loader.preparation.parts():
        for index in BATCHES[0]:
            with loader._pool.taken(index, part) as made:
                assert made is not None
                assert isinstance(part, Opened) or made.arrays


def test_samples_are_those_of_the_dataset(loader: SampleLoader):
    dataset = loader.preparation.dataset
    loader.announce(BATCHES)
    for batch in BATCHES:
        samples, _ = loader.load(batch)
        for index, sample in zip(batch, samples, strict=True):
            assert sample.id == dataset.sample_id(index)
            assert sample.image.tobytes() == dataset.open(index).tobytes()
            assert sample.digest == image_name(sample.image)
            assert replace(sample, image=dataset.open(0)).digest == ""


def test_images_that_a_method_reads_come_along(preparation):
    preparation.inputs = Inputs(images=True)
    loader = SampleLoader(preparation, 1)
    loader.announce([(4, 6)])
    preparation.decode = None  # pyright: ignore[reportAttributeAccessIssue]
    samples, _ = loader.load((4, 6))
    assert [s.image.tobytes() for s in samples] == [
        preparation.dataset.open(index).tobytes() for index in (4, 6)
    ]
    loader.close()


def test_a_batch_out_of_turn_is_made_here(task, loader, preparation):
    here, alone = SampleLoader(preparation, 0), CachingTask(task.backbone, task.classes)
    loader.announce(BATCHES)
    for batch in (BATCHES[0], (9, 11), *BATCHES[1:]):
        for one, other in zip(
            everything(task, loader, batch), everything(alone, here, batch), strict=True
        ):
            assert torch.equal(one, other)


def test_a_sample_with_another_image_or_generator_is_made_here(task, loader):
    loader.announce(BATCHES)
    samples, _ = loader.load(BATCHES[0])
    drawn = replace(samples[0], image=Image.new("RGB", (32, 32), "red"))
    assert torch.equal(task.pixels([drawn])[0], task.backbone.preprocess(drawn.image))
    rng = SampleRNG(8, samples[0].id)
    (other,) = task.draw([rng], DRAW)
    assert torch.equal(other["a"], DRAW.make(rng)["a"])


def test_what_lies_ready_is_bounded_in_bytes(preparation):
    most = preparation.bytes(Views(AUGMIX))
    pool = LoaderPool(preparation, 2, ahead=3 * most)
    pool.announce([tuple(range(start, start + 10)) for start in range(0, 100, 10)])
    largest = ahead = 0
    for start in range(0, 100, 10):
        pool.begin_batch()
        for part in pool.parts:
            for index in range(start, start + 10):
                with pool.taken(index, part) as made:
                    expected = preparation.make(index, part)
                    if made is not None:
                        ahead += bool(made.arrays)
                        for name, values in expected.arrays.items():
                            assert np.array_equal(made.arrays[name], values)
                largest = max(largest, sum(job.size for job in pool._asked.values()))
    assert 0 < largest <= pool.arena.size == 3 * most
    assert ahead
    pool.close()


def test_a_full_queue_keeps_no_memory(preparation, monkeypatch):
    monkeypatch.setattr(pools, "AHEAD_PARTS", 3)
    pool = LoaderPool(preparation, 1)
    pool.announce([(0, 1, 2, 3, 4)])
    for part in pool.parts:
        for index in range(5):
            with pool.taken(index, part):
                pass
    assert pool.arena.reserve(pool.arena.size) == 0
    pool.close()


def test_an_arena_gives_every_byte_once_and_takes_all_back():
    arena, draws = Arena(10_000), np.random.default_rng(0)
    held: list[tuple[int, int]] = []
    for _ in range(2000):
        size = int(draws.integers(1, 3000))
        start = arena.reserve(size)
        if start is not None:
            assert all(start + size <= begin or begin + length <= start for begin, length in held)
            held.append((start, size))
        if start is None or draws.random() < 0.4:
            arena.release(*held.pop(int(draws.integers(len(held)))))
    for region in held:
        arena.release(*region)
    assert arena.reserve(arena.size) == 0


def test_a_loader_that_dies_is_replaced(task, loader, preparation):
    here, alone = SampleLoader(preparation, 0), CachingTask(task.backbone, task.classes)
    loader.announce(BATCHES)
    first = {one.process.pid for one in loader._pool.loaders}
    for batch in BATCHES:
        os.kill(loader._pool.loaders[0].process.pid, signal.SIGKILL)
        for one, other in zip(
            everything(task, loader, batch), everything(alone, here, batch), strict=True
        ):
            assert torch.equal(one, other)
    assert len(loader._pool.loaders) == 2
    assert {one.process.pid for one in loader._pool.loaders} != first


def test_an_image_that_ends_every_loader_is_named_and_the_others_are_made(preparation, monkeypatch):
    opened = Cifar10CMini.open

    def deadly(self, index):
        return os._exit(7) if index == 4 else opened(self, index)

    monkeypatch.setattr(Cifar10CMini, "open", deadly)
    loader = SampleLoader(preparation, 1)
    loader.announce([(4, 6), (8,)])
    (sample,), ((index, message),) = loader.load((4, 6))
    assert index == 4
    assert f"{pools.ATTEMPTS} loaders died of image" in message
    (other,), unreadable = loader.load((8,))
    assert not unreadable
    assert [sample.id, other.id] == [preparation.dataset.sample_id(number) for number in (6, 8)]
    loader.close()


def test_a_fault_in_a_view_set_comes_out_in_this_process(preparation, monkeypatch):
    def faulty(self, image, rng, side):
        raise ZeroDivisionError("a fault of a plugin")

    monkeypatch.setattr(CropViews, "draw", faulty)
    preparation.inputs = Inputs(view_pixels=(CROPS,))
    loader = SampleLoader(preparation, 1)
    loader.announce([(4,)])
    samples, _ = loader.load((4,))
    task = CachingTask(preparation.pixel_maker.backbone, Cifar10CMini("", None).classes)
    task.use({}, loader)
    with pytest.raises(ZeroDivisionError, match="a fault of a plugin"):
        task.view_pixels(samples[0], SampleRNG(7, samples[0].id), CROPS)
    loader.close()


def test_a_transform_that_cannot_be_split_travels_as_floats(preparation, backbone, monkeypatch):
    whole = backbone.make_transform(32)
    monkeypatch.setattr(OpenClipBackbone, "make_transform", lambda self, size: lambda i: whole(i))
    maker, image = PixelMaker(load_backbone("tiny-clip", "cpu")), preparation.dataset.open(3)
    assert maker.dtype(None) is np.float32
    assert torch.equal(maker.finish(maker.prepare([image], None), None)[0], whole(image))


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


def test_systems_that_cannot_fork_are_told(preparation, monkeypatch):
    monkeypatch.setattr(pools.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(UserError, match="--loaders"):
        SampleLoader(preparation, 1)
    samples, unreadable = SampleLoader(preparation, 0).load([0])
    assert [sample.id for sample in samples] == [preparation.dataset.sample_id(0)]
    assert not unreadable


@pytest.mark.parametrize(
    ("device", "workers", "asked", "expected"),
    [
        ("cpu", 1, "auto", 0),
        ("mps", 1, "auto", 0),
        ("cuda", 1, "auto", 6),
        ("cuda", 4, "auto", 1),
        ("cuda", 1, 40, 40),
    ],
)
def test_auto_is_a_workers_share_of_the_cores(device, workers, asked, expected, monkeypatch, capfd):
    monkeypatch.setattr("ttt_bench.runner.loaders.usable_cores", lambda: 6)
    config = RunConfig(method="apm", dataset="d", workers=workers, loaders=asked)
    assert number_of_loaders(config, device) == expected
    assert ("more than the 6 cores" in capfd.readouterr().err) == (asked == 40)


def test_a_number_of_loaders_that_is_none_is_refused(ttt):
    code, _, err = ttt("run", "-m", "apm", "-d", "cifar10-c-mini", "--loaders", "some")
    assert code == 2
    assert "'some' is neither auto nor a number from 0 on" in err
