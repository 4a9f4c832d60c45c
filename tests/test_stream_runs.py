"""Runs of online methods: streams as asked for, and continued after a kill bit for bit."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.kills import killed
from tests.records_equal import records_equal
from tests.streaming_methods import SPEC, SPECS, ElsewhereSpec, always_save_states
from ttt_bench.api.executor import LostStateError, RecordsWithState, chains, without_state
from ttt_bench.engine import stream
from ttt_bench.executors.local import LocalExecutor
from ttt_bench.executors.ray import RayExecutor
from ttt_bench.registry import registered, registry
from ttt_bench.runs.folder import RunFolder
from ttt_bench.runs.plan import make_plan
from ttt_bench.runs.streams import StreamSetting

RUN = ("run", "-d", "cifar10-c-mini", "--device", "cpu", "--limit", "192")
# They take more than four seconds each; `check_state_saved` tries them at every border of a batch.
SLOW = ("adacontrast", "apm-kept-moments", "cmf", "rmt", "santa")
CONTINUAL = (*RUN, "--stream", "continual", "--revisit")


@pytest.fixture(autouse=True)
def methods(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stream, "SHARE", stream.SHARE)
    with registered(adapters=SPECS):
        yield


def folder(output: str, method: str = "drifting") -> RunFolder:
    return RunFolder(Path(output) / "cifar10-c-mini" / method)


def all_records(run: RunFolder):
    stream_card = run.card().method["stream"]
    count = run.card().method["chunks"] + stream_card["revisited_chunks"]
    return [run.read_chunk(number, run.card().key) for number in range(count)]


def assert_same_chunks(one: RunFolder, other: RunFolder) -> None:
    first, second = all_records(one), all_records(other)
    assert len(first) == len(second) > 3
    assert all(records_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_stream_killed_at_its_writes_ends_like_an_undisturbed_one(ttt):
    assert "continues with" in killed(0, 6, [*CONTINUAL, "-m", "drifting", "-o", "killed"])
    code, _, err = ttt(*CONTINUAL, "-m", "drifting", "-o", "undisturbed")
    assert code == 0, err
    assert_same_chunks(folder("killed"), folder("undisturbed"))
    assert not folder("killed").states.path.exists()


def test_every_quick_shipped_online_method_survives_kills(ttt):
    """All in one command, so that a kill hits one of them and the others continue after it."""
    methods = [
        name
        for name, item in registry().adapters.items()
        if item.spec.kind == "stream" and item.spec not in SPECS and name not in SLOW
    ]
    if not methods:
        pytest.skip("needs plugins/tta")
    words = [word for name in methods for word in ("-m", name)]
    command = [*RUN[:-1], "64", "--stream", "mixed", "--set", "batch_size=4", *words]
    if "tda" in methods:
        command += ["--set", "views=8", "--set", "selection=0.25"]
    if "cotta" in methods:
        command += ["--set", "cotta.copies=4"]
    killed(1, 4, [*command, "-o", "killed"])
    code, _, err = ttt(*command, "-o", "undisturbed")
    assert code == 0, err
    for name in methods:
        one, other = folder("killed", name), folder("undisturbed", name)
        assert records_equal(one.read_records(), other.read_records()), name
        assert not one.states.path.exists()


def test_a_lost_chunk_is_computed_again_from_the_last_state_and_compared(ttt, capfd):
    always_save_states()
    opened_states = []
    execute_chunks = LocalExecutor.execute

    def noting(self, worker, chunks):
        opened_states.append((chunks[0].number, chunks[0].state is not None, len(chunks)))
        yield from execute_chunks(self, worker, chunks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalExecutor, "execute", noting)
        # The run ends where its states cannot be dropped any more.
        patch.setattr("ttt_bench.runs.states.StateFiles.drop", lambda *_: None)
        assert ttt(*CONTINUAL, "-m", "drifting", "-o", "one")[0] == 0
        one = folder("one")
        before = all_records(one)
        assert len(one.states.numbers()) == len(before) - 1
        one.chunk_path(4).unlink()
        one.states.file(3).write_bytes(b"damaged")
        code, _, err = ttt(*CONTINUAL, "-m", "drifting", "-o", "one")
        assert code == 0
        assert "is damaged" in err
    # Chunk 3 is there, and is run again since the state after it is lost.
    assert opened_states == [(0, False, len(before)), (3, True, 2)]
    assert all(records_equal(a, b) for a, b in zip(before, all_records(one), strict=True))


def test_a_state_that_is_not_all_of_it_is_noticed_when_the_run_goes_on(ttt):
    always_save_states()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ttt_bench.runs.states.StateFiles.drop", lambda *_: None)
        assert ttt(*CONTINUAL, "-m", "forgetting", "-o", "one")[0] == 0
        one = folder("one", "forgetting")
        one.chunk_path(4).unlink()
        one.states.file(3).unlink()
        code, _, err = ttt(*CONTINUAL, "-m", "forgetting", "-o", "one")
    assert code == 2
    assert "chunk 3 came out otherwise" in err.splitlines()[-1]


def test_an_attribute_that_cannot_be_saved_ends_the_run_in_one_line(ttt):
    always_save_states()
    code, _, err = ttt(*CONTINUAL, "-m", "unsaveable", "-o", "one")
    assert code == 2
    assert "Unsaveable['places'] is an object of type range_iterator" in err.splitlines()[-1]


def plan_of(dataset, name: str = "continual", limit: int = 192, correlation: float | None = None):
    setting = StreamSetting(name, correlation)
    return make_plan(dataset, limit, "stream", 0, 8, setting=setting)


def test_a_dead_worker_is_replaced_and_its_stream_goes_on_from_the_last_state():
    worker = SPEC.build()
    plan = plan_of(worker.dataset, "grouped", 640)
    assert len(chains(plan.chunks)) == 16
    alone = {chunk.number: without_state(worker.run(chunk)) for chunk in plan.chunks}

    worker.spec = ElsewhereSpec(SPEC)
    killed = False
    counts = dict.fromkeys(alone, 0)
    with closing(LocalExecutor("", 2)) as executor:
        for chunk, result in executor.execute(worker, plan.chunks):
            assert records_equal(without_state(result), alone[chunk.number])
            counts[chunk.number] += 1
            if isinstance(result, RecordsWithState) and not killed:
                killed = True
                for child in multiprocessing.active_children():
                    os.kill(child.pid, signal.SIGKILL)
    assert killed
    assert min(counts.values()) == 1
    assert not multiprocessing.active_children()


def test_a_chunk_without_the_one_before_it_is_refused():
    worker = SPEC.build()
    first, second, third = plan_of(worker.dataset).chunks[:3]
    worker.run(first)
    with pytest.raises(LostStateError, match="chunk 2 was run without chunk 1 before it"):
        worker.run(third)
    worker.run(first)
    after = worker.run(second)
    always_save_states()
    begun = worker.run(first)
    assert isinstance(begun, RecordsWithState)
    goes_on = replace(second, state=begun.state)
    assert records_equal(without_state(SPEC.build().run(goes_on)), without_state(after))


def test_a_state_that_takes_long_to_write_is_saved_less_often(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(stream.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(stream.time, "perf_counter", lambda: 0.0)
    # Weights, moments and gradients of 128 x 128 numbers are 0.27 MB: 0.7 s, a twentieth of 14 s.
    monkeypatch.setattr(stream, "BYTES_PER_SECOND", 4e5)
    worker = SPEC.build()
    saved = []
    for chunk in plan_of(worker.dataset).chunks[:-1]:
        clock[0] += 10
        if isinstance(worker.run(chunk), RecordsWithState):
            saved.append(clock[0])
    assert saved == [30, 50]


def test_positions_and_streams_are_in_the_records(ttt, run_json, records_of):
    (run,) = run_json("-m", "drifting", "--limit", 192, "--stream", "mixed", "--correlation", 0.1)
    records = records_of(run)
    assert set(records.stream) == {"mixed"}
    assert sorted(records.position) == list(range(192))
    labels = records.label[np.argsort(records.position)]
    repeats = np.mean(labels[1:] == labels[:-1])
    (even,) = run_json("-m", "drifting", "--limit", 192, "--stream", "mixed")
    labels = records_of(even).label[np.argsort(records_of(even).position)]
    assert repeats > 0.5 > np.mean(labels[1:] == labels[:-1])
    (sample,) = run_json("-m", "clip-zero-shot", "--limit", 192, "--stream", "mixed")
    assert records_of(sample).position is None
    assert "stream" not in RunFolder(Path(sample["path"])).card().method


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--stream", "gradual"), "has one severity of each; give --stream continual"),
        (("--revisit",), "--revisit does not apply to --stream grouped"),
        (("--stream", "mixed", "--revisit"), "--revisit does not apply to --stream mixed"),
        (("--correlation", "0"), "0"),
        (("--correlation", "nan"), "nan"),
        (("--stream", "sideways"), "sideways"),
        (("--stream", "mixed", "--limit", "1"), "needs several groups"),
    ],
)
def test_what_does_not_apply_is_refused_in_one_line(ttt, options, message: str):
    code, out, err = ttt(*RUN, "-m", "drifting", *options)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err


def actors() -> list[int]:
    """The processes of Ray that hold one of our workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::RemoteWorker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


# Ray's own threads and files, some of them left to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ray_keeps_a_stream_on_an_actor_and_goes_on_where_one_is_lost(monkeypatch):
    pytest.importorskip("ray", reason="needs the ray extra")
    # The actors import the methods from this repository.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    worker = SPEC.build()
    plan = plan_of(worker.dataset)
    alone = {chunk.number: without_state(worker.run(chunk)) for chunk in plan.chunks}

    worker.spec = ElsewhereSpec(SPEC)
    finished, killed = set(), False
    with closing(RayExecutor("", 2)) as executor:
        for chunk, result in executor.execute(worker, plan.chunks):
            assert records_equal(without_state(result), alone[chunk.number])
            finished.add(chunk.number)
            if chunk.number == 1 and not killed:
                killed = True
                for actor in actors():
                    os.kill(actor, signal.SIGKILL)
    assert killed
    assert finished == set(alone)


def test_an_image_that_cannot_be_read_ends_its_stream_alone_and_all_are_named(ttt, tmp_path: Path):
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(50):
            pixels = draw.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    for name in ("cat/7.png", "dog/31.png"):
        (tmp_path / "photos" / name).write_bytes(b"no image")
    words = ("run", "-d", "imagefolder:photos", "-b", "tiny-clip", "-m", "drifting", "-o", "out")
    code, _, err = ttt(*words, "--device", "cpu")
    assert code == 2
    assert "7.png" in err
    assert "31.png" in err
    assert "2 images cannot be read" in err.splitlines()[-1]
    code, out, err = ttt(*words, "--device", "cpu", "--skip-unreadable", "--format", "json")
    assert code == 0, err
    assert '"n": 98' in out
