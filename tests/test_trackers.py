"""`run --track NAME`: the named trackers follow the runs, and one that fails stops nothing."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ttt_bench import Records, Run, Tracker, TrackerSpec, UserError, hookimpl, registered
from ttt_bench.registry import registry
from ttt_bench.runs.folder import RunFolder

METHOD = ("-m", "source", "--limit", "96")
RUN = (*METHOD, "-d", "cifar10-c-mini", "--device", "cpu", "-o", "runs")
FOLDER = Path("runs/cifar10-c-mini/source")
# What the trackers of this file were told.
told: list[tuple[Any, ...]] = []


class Noting(Tracker):
    """Notes what it is told."""

    def run_started(self, run: Run) -> None:
        told.append(("started", run.finished, run.correct, run.n))

    def chunk_finished(self, run: Run, records: Records) -> None:
        told.append(("chunk", len(records), int(records.correct.sum())))

    def run_finished(self, run: Run, summary: dict[str, Any]) -> None:
        told.append(("finished", summary["top1"]))

    def run_stopped(self, run: Run) -> None:
        told.append(("stopped", run.method))


class Failing(Tracker):
    """Notes and fails in everything but the end."""

    def run_started(self, run: Run) -> None:
        told.append(("fails to start",))
        raise ConnectionError("nobody answers")

    def chunk_finished(self, run: Run, records: Records) -> None:
        told.append(("fails with a chunk",))
        raise SystemExit(0)

    def run_finished(self, run: Run, summary: dict[str, Any]) -> None:
        told.append(("ends",))
        raise UserError("no project of this name")


class Impossible(Tracker):
    """Cannot be made, as its package is not installed."""

    def __init__(self) -> None:
        raise UserError("--track impossible needs the package mine: pip install mine")


class Broken(Tracker):
    """Cannot be made, by a fault of its own."""

    def __init__(self) -> None:
        raise KeyError("token")


class Interrupting:
    """Stands in for the user, who presses Ctrl-C when the second chunk is saved."""

    chunks = 0

    @hookimpl
    def ttt_bench_chunk_finished(self, run: Run, records: Records) -> None:
        self.chunks += 1
        if self.chunks == 2:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def trackers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The trackers of this file by their names in lower case."""
    types = {one.__name__.lower(): one for one in (Noting, Failing, Impossible, Broken)}
    module = ModuleType("my_trackers")
    vars(module).update(types)
    monkeypatch.setitem(sys.modules, "my_trackers", module)
    specs = [TrackerSpec(name=name, summary=name, code=f"my_trackers:{name}") for name in types]
    told.clear()
    with registered(trackers=specs):
        yield


def test_the_trackers_of_a_command_alone_are_told_and_the_card_says_nothing_of_them(ttt):
    assert ttt("run", *RUN)[0] == 0
    assert told == []
    card = json.loads((FOLDER / "manifest.json").read_text())["card"]
    code, _, err = ttt("run", *RUN, "--fresh", "--track", "noting", "--track", "noting")
    assert code == 0, err
    started, *chunks, finished = told
    assert started == ("started", 0, 0, 96)
    assert [name for name, *_ in chunks] == ["chunk"] * 3
    assert sum(samples for _, samples, _ in chunks) == 96
    assert finished == ("finished", 100 * sum(correct for *_, correct in chunks) / 96)
    assert json.loads((FOLDER / "manifest.json").read_text())["card"] == card


def test_a_run_that_is_stopped_and_continued_says_how_many_predictions_were_right(ttt):
    with registered(plugins=[Interrupting()]):
        assert ttt("run", *RUN, "--track", "noting")[0] == 130
    assert [name for name, *_ in told] == ["started", "chunk", "stopped"]
    told.clear()
    assert ttt("run", *RUN, "--track", "noting")[0] == 0
    (_, finished, correct, n), *chunks, _ = told
    # The second chunk was saved, though the tracker was not told of it.
    assert (finished, n, len(chunks)) == (64, 96, 1)
    records = RunFolder(FOLDER).read_records()
    assert correct + chunks[0][2] == records.correct.sum()
    assert correct > 5


def test_a_tracker_that_fails_is_named_once_and_told_of_no_further_chunk(ttt):
    runs = (*RUN, "-m", "norm")
    code, out, err = ttt("run", *runs, "--track", "failing", "--track", "noting")
    assert code == 0
    assert "source" in out
    (line,) = [line for line in err.splitlines() if "failing" in line]
    assert line == "tracker failing failed (ConnectionError: nobody answers); the run goes on"
    names = [name for name, *_ in told]
    assert names.count("fails with a chunk") == 0
    assert names.count("fails to start") == names.count("ends") == 2
    assert names.count("started") == names.count("finished") == 2
    assert names.count("stopped") == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("notin", "unknown tracker 'notin'; did you mean noting? (see `ttt-bench list trackers`)"),
        ("impossible", "--track impossible needs the package mine: pip install mine"),
        ("broken", "--track broken: it cannot be made (KeyError: 'token')"),
    ],
)
def test_a_tracker_that_cannot_be_had_stops_the_command_before_anything_is_computed(
    name: str, message: str, ttt
):
    code, out, err = ttt("run", *RUN, "--track", name)
    assert (code, out, err) == (2, "", f"ttt-bench: {message}\n")
    assert not Path("runs").exists()


def test_without_any_tracker_the_message_says_what_to_install(ttt, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(registry().trackers, "_items", {})
        code, _, err = ttt("run", *RUN, "--track", "mlflow")
    assert code == 2
    assert err.startswith("ttt-bench: --track mlflow: no tracker is installed; ")
    assert err.endswith("pip install 'ttt-bench-trackers[mlflow]'\n")


@pytest.mark.parametrize("value", ["notin", "[noting, notin]"])
def test_a_file_of_options_names_trackers(value: str, ttt, tmp_path: Path):
    (tmp_path / "run.yaml").write_text(f"track: {value}\n")
    code, _, err = ttt("run", *RUN, "--config", "run.yaml")
    assert code == 2
    assert "unknown tracker 'notin'" in err
