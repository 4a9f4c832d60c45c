"""Workers of every kind give the records of one process, and a lost one costs nothing but time."""

import json
import multiprocessing
import os
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typing_extensions import override

from tests.records_equal import records_equal
from tests.worker_specs import worker_spec
from ttt_bench import ClassSet, DatasetSpec
from ttt_bench.api.dataset import Dataset, Entry
from ttt_bench.api.executor import Chunk
from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.executors import processes
from ttt_bench.registry import registered, registry
from ttt_bench.runs.folder import RunFolder
from ttt_bench.runs.plan import chunk_size, make_plan

ZERO_SHOT = worker_spec("clip-zero-shot", batch_size=2, feature_cache=False)
METHODS = {
    "apm": ("--set", "steps=3"),
    "tpt": ("--set", "views=8", "--set", "selection=0.25"),
    "ttt-mae": ("--set", "steps=1", "--set", "copies=4"),
}
RUN = ("run", "-d", "cifar10-c-mini", "--device", "cpu", "--format", "json", "--limit", "160")


class Killer:
    """Kills a worker when the first chunk of a run is there."""

    def __init__(self, victim: Callable[[], int]) -> None:
        self.victim = victim
        self.killed: list[int] = []

    @hookimpl
    def ttt_bench_chunk_finished(self) -> None:
        if not self.killed:
            self.killed.append(self.victim())
            os.kill(self.killed[0], signal.SIGKILL)


@pytest.fixture
def killing() -> Callable:
    """Register a killer for the rest of the test."""
    manager, killers = registry().manager, []

    def register(victim: Callable[[], int]) -> Killer:
        killers.append(Killer(victim))
        manager.register(killers[-1])
        return killers[-1]

    yield register
    for killer in killers:
        manager.unregister(killer)


def a_process() -> int:
    child = multiprocessing.active_children()[0]
    assert child.pid is not None
    return child.pid


def an_actor() -> int:
    """A process of Ray's that holds one of our workers and is at work."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"RemoteWorker.run" in path.read_bytes():
                return int(path.parent.name)
        except OSError:
            continue
    raise AssertionError("no actor is at work")


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """One cluster on this machine for all tests: starting it takes longest."""
    ray = pytest.importorskip("ray", reason="needs the ray extra")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


# Ray's own threads and files, some of them left to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", METHODS)
def test_two_workers_one_of_them_killed(ttt, killing, ray, method: str):
    command = (*RUN, "-m", method, *METHODS[method])
    assert ttt(*command, "-o", "one")[0] == 0
    for executor, victim in (("local", a_process), ("ray", an_actor)):
        killer = killing(victim)
        options = ("-o", executor, "--executor", executor, "--workers", "2")
        code, _, err = ttt(*command, *options)
        assert code == 0, err
        assert killer.killed
        assert_same(method, "one", executor)
    assert not multiprocessing.active_children()


def assert_same(method: str, one: str, other: str) -> None:
    folders = [RunFolder(Path(output) / "cifar10-c-mini" / method) for output in (one, other)]
    first, second = (folder.read_records() for folder in folders)
    assert records_equal(first, second)
    assert folders[0].card() == folders[1].card()


def test_a_chunk_that_kills_every_worker_ends_the_run(ttt, killing, monkeypatch):
    monkeypatch.setattr(processes, "_serve", _die)
    code, out, err = ttt(*RUN, "-m", "clip-zero-shot", "--workers", "2")
    assert (code, out) == (2, "")
    assert "3 workers died of chunk" in err.splitlines()[-1]
    assert not multiprocessing.active_children()


def _die(connection) -> None:
    connection.recv()
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_processes_of_one_run_serve_the_next():
    pool = processes.ProcessPool()
    chunks = [Chunk(number, (2 * number, 2 * number + 1)) for number in range(2)]
    used = []
    try:
        for spec in (ZERO_SHOT, replace(ZERO_SHOT, method="clip-ensemble")):
            here = spec.build()
            for chunk, result in pool.run_chunks(spec, 2, chunks):
                assert records_equal(result, here.run(chunk))
            used.append([process.pid for _, process in pool._processes.values()])
    finally:
        pool.close()
    assert used[0] == used[1]
    assert len(used[0]) == 2
    assert not multiprocessing.active_children()


def test_a_worker_takes_over_what_the_last_one_has_loaded():
    worker = ZERO_SHOT.build()
    following = replace(ZERO_SHOT, method="clip-ensemble").build(worker.left_over())
    assert following.task.backbone is worker.task.backbone
    assert following.dataset is worker.dataset
    left_over = worker.left_over()
    other = replace(ZERO_SHOT, method="source", backbone="tiny-resnet").build(left_over)
    assert other.dataset is worker.dataset
    # Not held any longer.
    assert left_over.backbone is None


def test_what_a_worker_says_is_one_line(ttt, tmp_path: Path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (40, 30), "red").save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "photos" / "dog" / "19.png").write_bytes(b"no image")
    photos = ("run", "-d", "imagefolder:photos", "-b", "tiny-clip", "-m", "clip-zero-shot")
    code, _, err = ttt(*photos, "--workers", "2")
    assert code == 2
    assert "19.png" in err.splitlines()[-2]
    assert "--skip-unreadable" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "where", [("--workers", 2), ("--executor", "ray", "--workers", 1)], ids=["local", "ray"]
)
def test_workers_have_loaders_of_their_own(run_json, records_of, ray, where: tuple[object, ...]):
    fewer = ("--set", "tpt.views=12", "--set", "apm.steps=2", "--limit", 36)
    words = ("-m", "apm", "-m", "tpt", *fewer)
    alone = run_json(*words, "-o", "alone")
    spread = run_json(*words, *where, "--loaders", 1, "--no-feature-cache", "-o", "spread")
    for one, other in zip(alone, spread, strict=True):
        assert records_equal(records_of(one), records_of(other))
    assert not multiprocessing.active_children()


def test_only_ray_takes_an_address(ttt):
    code, _, err = ttt(*RUN, "-m", "clip-zero-shot", "--executor", "local:localhost:1")
    assert code == 2
    assert "executor 'local' takes no argument" in err


@pytest.mark.parametrize("address", ["localhost:1", "nonsense", "localhost:no"])
def test_nobody_answers_at_the_address(ttt, address: str):
    code, out, err = ttt(*RUN, "-m", "clip-zero-shot", "--executor", f"ray:{address}")
    assert (code, out) == (2, "")
    assert f"no Ray cluster answers at {address}" in err.splitlines()[-1]


def test_one_worker_is_this_process(ttt, monkeypatch):
    monkeypatch.setattr(processes.ProcessPool, "_begin", lambda *_: pytest.fail("a process"))
    assert ttt(*RUN, "-m", "clip-zero-shot", "--workers", "1")[0] == 0


def test_dry_run_says_what_a_run_takes_and_writes_nothing(ttt, tmp_path: Path):
    methods = ("-m", "clip-zero-shot", "-m", "apm")
    code, out, err = ttt(*RUN, *methods, "--dry-run", "--workers", "4")
    assert code == 0, err
    zero_shot, apm = json.loads(out)["plans"]
    assert (apm["samples"], apm["chunks"], apm["missing_chunks"]) == (160, 5, 5)
    assert apm["gflops_per_sample"] > zero_shot["gflops_per_sample"] > 0.1
    assert apm["worker_hours"] == pytest.approx(apm["seconds_per_sample"] * 160 / 3600)
    # Five chunks for four workers are two rounds.
    assert apm["hours"] == pytest.approx(apm["seconds_per_sample"] * 64 / 3600)
    assert list(tmp_path.iterdir()) == []
    assert ttt(*RUN, *methods)[0] == 0
    code, out, _ = ttt(*RUN, *methods, "--dry-run")
    assert code == 0
    assert [plan["missing_chunks"] for plan in json.loads(out)["plans"]] == [0, 0]
    code, out, _ = ttt(*RUN[:-4], *methods, "--dry-run")
    assert code == 0
    assert "3,200 of 3,200" in out


def test_a_worker_that_is_killed_while_it_answers_is_gone():
    ours, theirs = multiprocessing.Pipe()
    # The length of a message, and the first of its bytes.
    os.write(theirs.fileno(), struct.pack("!i", 100) + b"part")
    theirs.close()
    with pytest.raises(EOFError):
        processes._answer(ours)


class Entries(Sequence[Entry]):
    """Made when asked for: millions of them would take a test's time."""

    conditions = tuple(f"c{place}@{severity}" for place in range(15) for severity in range(1, 6))

    def __init__(self, each: int) -> None:
        self.each = each

    def __len__(self) -> int:
        return len(self.conditions) * self.each

    def __getitem__(self, index):
        group = self.conditions[index // self.each]
        return Entry(f"{group}/{index}", group, index % 10)


class Corruptions(Dataset):
    """As many entries as ImageNet-C has, of one grey image."""

    classes = ClassSet(tuple(f"class {number}" for number in range(10)))

    def __init__(self, argument: str, root: Path | None) -> None:
        self.name = "full-size"
        self.entries = Entries(int(argument))

    @override
    def open(self, index: int) -> Image.Image:
        return Image.fromarray(np.full((32, 32, 3), 127, np.uint8))

    @override
    def card(self) -> dict:
        return {"revision": "none"}


def test_a_plan_of_imagenet_cs_size_has_a_bounded_number_of_files():
    """15 corruptions x 5 severities x 50,000 samples."""
    dataset = Corruptions("50000", None)
    plan = make_plan(dataset, None)
    assert sum(len(chunk.indices) for chunk in plan.chunks) == 3_750_000
    assert 1024 < len(plan.chunks) <= 2048
    assert [chunk_size(samples) for samples in (1, 1920, 16_384, 50_000, 750_000)] == [
        32, 32, 32, 128, 384,
    ]  # fmt: skip
    assert {len(chunk.indices) for chunk in plan.chunks[:-1]} == {1856}
    streams = make_plan(Corruptions("100", None), None, "stream", batch_size=16)
    assert [len(chunk.indices) for chunk in streams.chunks] == [32, 32, 32, 4] * 75


@pytest.fixture
def full_size() -> Iterator[None]:
    spec = DatasetSpec(
        name="full-size", summary="", code="tests.test_scale:Corruptions", argument="N",
        backbones={"clip": "tiny-clip"}, source="made", licence="none",
    )  # fmt: skip
    with registered(datasets=[spec]):
        yield


def test_dry_run_of_many_corruptions(ttt, full_size):
    code, out, err = ttt(
        "run", "-d", "full-size:100", "-m", "clip-zero-shot", "--dry-run", "--workers", "16",
        "--format", "json", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    (plan,) = json.loads(out)["plans"]
    assert plan["samples"] == 7_500
    assert plan["hours"] == pytest.approx(plan["worker_hours"] / 16, rel=0.05)
