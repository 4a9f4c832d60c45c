"""Features on disk: used, right to the last bit, and never the reason that a run fails."""

import os
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from tests.records_equal import records_equal
from ttt_bench.api import on_disk
from ttt_bench.api.cost import Counter
from ttt_bench.api.sample import Sample
from ttt_bench.backbones.open_clip import OpenClipBackbone
from ttt_bench.baselines.clip import ZeroShot
from ttt_bench.cache.features import Feature, FeatureCache, image_name
from ttt_bench.cache.store import cache_folder, cache_limit
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.engine.loading import load_backbone
from ttt_bench.engine.task import CachingTask

METHODS = ("-m", "clip-zero-shot", "-m", "apm", "--limit", 10, "--set", "apm.steps=2")


def feature(number: float) -> Feature:
    return Feature(torch.full((128,), float(number)), seconds=number / 8)


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many images pass the encoder, call by call."""
    sizes: list[int] = []
    encode = OpenClipBackbone.encode_image

    def counting(self, pixels):
        sizes.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(OpenClipBackbone, "encode_image", counting)
    return sizes


@pytest.fixture
def task() -> CachingTask:
    dataset = Cifar10CMini("", None)
    backbone = load_backbone("tiny-clip", "cpu")
    task = CachingTask(backbone, dataset.classes)
    task.use({None: FeatureCache({"test": 1}, 128)})
    return task


@pytest.fixture
def samples() -> list[Sample]:
    dataset = Cifar10CMini("", None)
    return [Sample(str(index), dataset.open(index)) for index in range(4)]


def test_what_was_written_is_read():
    cache = FeatureCache({"weights": "a"}, 128)
    assert cache.read(["one"]) == {}
    cache.write({"one": feature(0.1), "two": feature(2)})
    found = FeatureCache({"weights": "a"}, 128).read(["two", "one", "three"])
    assert found.keys() == {"one", "two"}
    assert torch.equal(found["one"].values, feature(0.1).values)
    assert found["one"].seconds == 0.1 / 8
    assert FeatureCache({"weights": "b"}, 128).read(["one"]) == {}


def test_a_damaged_entry_is_not_there():
    cache = FeatureCache({}, 128)
    cache.write({"one": feature(1), "two": feature(2), "three": feature(3)})
    with sqlite3.connect(cache.store.path) as database:
        blob = feature(5).values.numpy().tobytes()
        database.execute("UPDATE entries SET value = ? WHERE name = 'one'", (blob,))
        database.execute("UPDATE entries SET seconds = 9 WHERE name = 'two'")
    database.close()
    assert cache.read(["one", "two", "three"]).keys() == {"three"}
    cache.write({"one": feature(1)})
    assert cache.read(["one"]).keys() == {"one"}


@pytest.mark.parametrize("damage", ["overwritten", "truncated", "another table"])
def test_a_damaged_file_is_begun_anew(damage: str, capfd):
    cache = FeatureCache({}, 128)
    cache.write({str(number): feature(number) for number in range(100)})
    whole = cache.store.path.read_bytes()
    if damage == "overwritten":
        cache.store.path.write_bytes(b"not a database at all" * 500)
    elif damage == "truncated":
        cache.store.path.write_bytes(whole[: len(whole) // 2])
    else:
        with sqlite3.connect(cache.store.path) as database:
            database.execute("UPDATE entries SET digest = NULL, value = 'text'")
        database.close()
    names = [str(number) for number in range(100)]
    intact = cache.read(names)
    assert all(torch.equal(intact[name].values, feature(int(name)).values) for name in intact)
    fresh = FeatureCache({}, 128)
    fresh.write({name: feature(int(name)) for name in names})
    assert fresh.read(names).keys() == set(names)
    assert capfd.readouterr().err == ""


def test_the_least_recently_used_files_go():
    caches = [FeatureCache({"n": n}, 128) for n in range(5)]
    for age, cache in enumerate(caches):
        cache.write({str(number): feature(number) for number in range(60)})
        os.utime(cache.store.path, (age, age))
    caches[0].read(["1"])
    limit = caches[0].store.path.stat().st_size * 7 // 2
    FeatureCache({"n": 4}, 128, limit).write({"more": feature(1)})
    assert [cache.store.path.exists() for cache in caches] == [True, False, False, True, True]
    assert sum(path.stat().st_size for path in cache_folder().iterdir()) <= limit


def test_one_file_stays_within_the_bound():
    cache = FeatureCache({}, 128, limit=100_000)
    for start in range(0, 1000, 10):
        cache.write({str(start + number): feature(number) for number in range(10)})
    assert 50_000 < cache.store.path.stat().st_size < 120_000


def fill(start: int) -> int:
    """What another process does: write features and read them again, those of others between."""
    cache = FeatureCache({"shared": True}, 128)
    for number in range(start, start + 30):
        cache.write({str(number): feature(number)})
    return len(cache.read([str(number) for number in range(start, start + 30)]))


def test_processes_share_a_file(capfd):
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        assert list(pool.map(fill, (0, 20, 40))) == [30, 30, 30]
    found = FeatureCache({"shared": True}, 128).read([str(number) for number in range(70)])
    assert len(found) == 70
    assert all(feature.values[0] == int(name) for name, feature in found.items())
    assert capfd.readouterr().err == ""


def test_methods_and_runs_share_features(run_json, records_of, encoded):
    apart = run_json(*METHODS, "--no-feature-cache", "--output", "apart")
    assert not cache_folder().exists()
    alone = len(encoded)
    encoded.clear()
    first = run_json(*METHODS, "--output", "first")
    # One call on loading, one for each of the 2 samples of the probe; a run's 10 samples are a
    # group, and the first cached feature is compared with a computed one.
    assert (alone, len(encoded)) == (1 + 2 * (2 + 1), 1 + (2 + 1) + 1)
    encoded.clear()
    second = run_json(*METHODS, "--output", "second")
    assert len(encoded) == 1 + 2
    for runs in (first, second):
        for run, reference in zip(runs, apart, strict=True):
            assert records_equal(records_of(run), records_of(reference))
            for count in ("gflops_per_sample", "peak_memory_mb", "parameters_updated"):
                assert run["cost"][count] == reference["cost"][count]


def test_a_feature_costs_what_it_cost(task, samples):
    def booked() -> float:
        task.pop_saved_seconds()
        started = time.perf_counter()
        task.encode_image(samples)
        return time.perf_counter() - started + task.pop_saved_seconds()

    computing = booked()
    found = task._caches[None].read([image_name(sample.image) for sample in samples])
    assert 0 < sum(feature.seconds for feature in found.values()) <= computing
    # Four that took a minute each when they were computed still do.
    task._caches[None].write({name: Feature(found[name].values, 60.0) for name in found})
    assert booked() == pytest.approx(240, abs=0.1)


@pytest.mark.parametrize("number", [1, 3])
def test_a_batch_is_counted_once_and_charged_again(task, samples, encoded, number):
    batch = samples[:number]
    task.encode_image(batch)
    encoded.clear()
    with Counter() as counted:
        task.encode_image(batch)
    with Counter() as charged:
        task.encode_image(batch)
    assert sum(encoded) == number
    assert counted.flops == charged.flops
    assert counted.flops["frozen"]["forward"] > 0
    assert counted.peak_bytes == charged.peak_bytes


def test_another_image_is_another_feature(task, samples, encoded):
    before = task.encode_image(samples)
    drawn = samples[0].image.copy()
    ImageDraw.Draw(drawn).line((0, 0, 31, 31), fill="red")
    same_id = [Sample(samples[0].id, drawn)]
    assert not torch.equal(task.encode_image(same_id)[0], before[0])
    encoded.clear()
    assert torch.equal(task.encode_image(samples[:1]), before[:1])
    assert encoded in ([], [16])
    assert image_name(Image.new("RGB", (2, 8))) != image_name(Image.new("RGB", (8, 2)))


def test_a_changed_backbone_gets_its_own_features(task, samples):
    frozen = task.encode_image(samples)
    parameter = next(iter(task.backbone.model.visual.parameters()))
    original = parameter.clone()
    with torch.no_grad():
        parameter.add_(0.5)
    changed = task.encode_image(samples)
    assert not torch.equal(changed, frozen)
    with torch.no_grad():
        parameter.copy_(original)
    assert torch.equal(task.encode_image(samples), frozen)
    fresh = FeatureCache({"test": 1}, 128).read([image_name(sample.image) for sample in samples])
    assert all(torch.equal(f.values, row) for f, row in zip(fresh.values(), frozen, strict=True))


@pytest.mark.parametrize("how", ["hook", "module", "training"])
def test_other_changes_are_noticed(task, samples, how: str, encoded):
    task.encode_image(samples)
    task.encode_image(samples)
    encoded.clear()
    visual = task.backbone.model.visual
    if how == "hook":
        visual.register_forward_hook(lambda module, args, output: output + 1)
    elif how == "module":
        visual.extra = torch.nn.Identity()
    else:
        visual.train()
    task.encode_image(samples)
    assert encoded == [16]


def test_another_precision_is_computed(task, samples, encoded):
    task.encode_image(samples)
    encoded.clear()
    with torch.autocast("cpu", torch.bfloat16):
        task.encode_image(samples)
    assert encoded == [16]


def test_features_that_are_no_longer_right_are_dropped(task, samples):
    """As after a change of somebody's code, which no key knows of."""
    right = task.encode_image(samples)
    names = [image_name(sample.image) for sample in samples]
    task._caches[None].write({name: feature(1) for name in names})
    task._verified.clear()
    assert torch.equal(task.encode_image(samples), right)
    assert torch.equal(task._caches[None].read(names)[names[0]].values, right[0])


def test_a_cache_that_cannot_be_written_is_one_line(ttt, monkeypatch, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TTT_BENCH_CACHE", str(tmp_path / "file"))
    code, _, err = ttt("run", "-d", "cifar10-c-mini", "-m", "clip-zero-shot", "--limit", 40)
    assert code == 0
    (line,) = [line for line in err.splitlines() if "feature cache" in line]
    assert "going on without it" in line


def test_a_spoiled_backbone_leaves_no_features(ttt, monkeypatch):
    adapt = ZeroShot.adapt

    def careless(self, samples, rngs):
        self.task.backbone.model.logit_scale.data += 0.1
        return adapt(self, samples, rngs)

    monkeypatch.setattr(ZeroShot, "adapt", careless)
    code, _, err = ttt("run", "-d", "cifar10-c-mini", "-m", "clip-zero-shot", "--limit", 4)
    assert code == 2, err
    assert not list(cache_folder().glob("*.sqlite"))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("1000", 1000), ("1.5 kb", 1500), ("20GB", 20 * 10**9), ("3t", 3 * 10**12)],
)
def test_the_limit_is_a_variable(limit: str, expected: int, monkeypatch):
    monkeypatch.setenv("TTT_BENCH_CACHE_LIMIT", limit)
    assert cache_limit() == expected


def test_a_limit_that_is_no_size_is_one_line(ttt, monkeypatch):
    monkeypatch.setenv("TTT_BENCH_CACHE_LIMIT", "much")
    code, _, err = ttt("run", "-d", "cifar10-c-mini", "-m", "clip-zero-shot", "--limit", 4)
    assert code == 2
    assert "TTT_BENCH_CACHE_LIMIT=much is no size" in err


def test_the_limit_is_a_tenth_of_the_free_space(monkeypatch):
    cache = FeatureCache({}, 128)
    cache.write({"one": feature(1)})
    taken = cache.store.path.stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 10**9))
    assert cache_limit() == (10**9 + taken) // 10


class Usage(NamedTuple):
    """A disk's space."""

    total: int
    used: int
    free: int


def test_a_full_cache_fails_no_run(run_json, records_of, monkeypatch):
    apart = run_json(*METHODS, "--no-feature-cache", "--output", "apart")
    monkeypatch.setenv("TTT_BENCH_CACHE_LIMIT", "10")
    full = run_json(*METHODS, "--output", "full")
    for one, other in zip(apart, full, strict=True):
        assert records_equal(records_of(one), records_of(other))
    assert sum(path.stat().st_size for path in cache_folder().glob("*.sqlite")) == 0


def test_an_image_whose_features_are_there_is_not_decoded(ttt, run_json, tmp_path, monkeypatch):
    draws = np.random.default_rng(0)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for number in range(6):
        image = Image.fromarray(draws.integers(0, 255, (32, 32, 3), np.uint8))
        image.save(tmp_path / "photos" / "a" / f"{number}.png")
    words = ("-m", "source", "-d", "imagefolder:photos", "-b", "tiny-clip", "--device", "cpu")
    opened: list[Path] = []

    def counting(path):
        opened.append(path)
        return on_disk.open_image(path)

    monkeypatch.setattr("ttt_bench.datasets.image_folder.open_image", counting)
    for output in ("first", "second"):
        code, _, err = ttt("run", *words, "-o", output)
        assert code == 0, err
    # The second run compares the first feature with a computed one.
    assert len(opened) == 6 + 1
    # The bytes decide: an edited file is decoded again.
    Image.new("RGB", (32, 32)).save(tmp_path / "photos" / "a" / "3.png")
    opened.clear()
    code, _, err = ttt("run", *words, "-o", "third")
    assert code == 0, err
    assert tmp_path / "photos" / "a" / "3.png" in [path.resolve() for path in opened]
