"""The hooks do what their page says: every example there runs, and a bad hook stops nothing."""

import inspect
import json
import sys
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import ttt_bench
from tests.records_equal import records_equal
from ttt_bench import UserError, hookimpl, registered
from ttt_bench.api import hookspecs
from ttt_bench.cli import Commands
from ttt_bench.registry import registry

HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("ttt_bench_")}
SPEC_HOOKS = [f"ttt_bench_{kind}" for kind in registry().catalogs]
RUN = ("-m", "clip-zero-shot", "--limit", "160")


def example_of(hook: str, **names: Any) -> SimpleNamespace:
    """Run the example in a hook's docstring, and return a plugin with the hook it defines.

    Args:
        hook: the hook's name.
        names: what the example has at hand besides the imports that the page states.
    """
    source = inspect.getdoc(HOOKS[hook]).partition("Example:\n")[2]
    names |= {name: getattr(ttt_bench, name) for name in ttt_bench.__all__}
    names |= {name: __import__(name) for name in ("click", "json")}
    exec(textwrap.dedent(source), names)
    return SimpleNamespace(**{hook: names[hook]})


class Tracker:
    """Stands in for the client of an experiment tracker."""

    def __init__(self):
        self.calls = []

    def start(self, name: str, config: str):
        self.calls.append(("start", name, config))

    def log(self, name: str, samples: int, accuracy: float):
        self.calls.append(("log", name, samples, accuracy))

    def finish(self, name: str, top1: float, summary: str):
        self.calls.append(("finish", name, top1, summary))


def test_every_hook_has_an_example_that_defines_it():
    assert set(SPEC_HOOKS) < set(HOOKS)
    for hook in HOOKS:
        example = getattr(example_of(hook, tracker=Tracker()), hook)
        assert list(inspect.signature(example).parameters) == list(
            inspect.signature(HOOKS[hook]).parameters
        )


@pytest.mark.parametrize("hook", SPEC_HOOKS)
def test_the_example_of_a_hook_that_adds_registers_it(hook: str, monkeypatch):
    plugin = example_of(hook)
    (spec,) = getattr(plugin, hook)()
    package, attribute = ModuleType("my_package"), object()
    module, _, name = spec.code.partition(":")
    code = ModuleType(module)
    setattr(code, name, attribute)
    monkeypatch.setitem(sys.modules, "my_package", package)
    monkeypatch.setitem(sys.modules, module, code)
    catalog = registry().catalogs[hook.removeprefix("ttt_bench_")]
    with registered(plugins=[plugin]):
        assert catalog.find(f"{spec.name}").spec.load() is attribute
    assert spec.name not in catalog


def test_the_example_of_commands_adds_a_command():
    with registered(plugins=[example_of("ttt_bench_commands")]):
        result = CliRunner().invoke(Commands("ttt-bench"), ["hello"])
    assert (result.exit_code, result.output) == (0, "hello\n")


def test_the_examples_of_the_other_hooks_make_a_tracker(run_json, records_of):
    tracker = Tracker()
    hooks = ("ttt_bench_run_started", "ttt_bench_chunk_finished", "ttt_bench_run_finished")
    plugins = [example_of(hook, tracker=tracker) for hook in hooks]
    with registered(plugins=plugins):
        (run,) = run_json(*RUN)
        first = list(tracker.calls)
        run_json(*RUN)
    assert tracker.calls == first, "nothing was left to do, and the examples look at that"
    start, *logs, finish = first
    manifest = json.loads((Path(run["path"]) / "manifest.json").read_text())
    assert start[:2] == ("start", run["path"])
    assert json.loads(start[2]) == manifest["card"]
    assert sum(samples for _, _, samples, _ in logs) == len(records_of(run)) == 160
    right = sum(samples * accuracy for _, _, samples, accuracy in logs)
    assert right == pytest.approx(records_of(run).correct.sum())
    assert finish[:3] == ("finish", run["path"], run["top1"])
    assert json.loads(finish[3])["cost"] == run["cost"]


def test_a_run_tells_whether_anything_is_left_to_do(run_json):
    told = []

    class Listener:
        @hookimpl
        def ttt_bench_run_started(self, run):
            told.append(("started", run.finished, run.n))

        @hookimpl
        def ttt_bench_run_finished(self, run, summary):
            told.append(("finished", run.finished, run.n))

    with registered(plugins=[Listener()]):
        (run,) = run_json(*RUN)
        run_json(*RUN)
        next((Path(run["path"]) / "chunks").iterdir()).unlink()
        run_json(*RUN)
    assert [name for name, _, _ in told] == ["started", "finished"] * 3
    assert [counts for _, *counts in told[:4]] == [[0, 160], [0, 160], [160, 160], [160, 160]]
    assert 0 < told[4][1] < 160


@pytest.mark.parametrize("error", [ConnectionError("no network"), SystemExit(0)], ids=repr)
def test_a_hook_that_raises_is_named_once_and_breaks_no_plugin(error: BaseException, ttt):
    calls = []

    class Listener:
        @hookimpl
        def ttt_bench_chunk_finished(self, run, records):
            calls.append(run.chunks)
            raise error

    with registered(plugins=[Listener()], name="tracker"):
        code, out, err = ttt("run", *RUN, "-d", "cifar10-c-mini", "--device", "cpu")
        assert (code, len(calls)) == (0, calls[0])
        assert len(calls) > 1
        (line,) = [line for line in err.splitlines() if "tracker-1" in line]
        assert line.startswith("plugin tracker-1: ttt_bench_chunk_finished failed (")
        assert type(error).__name__ in line
        assert "clip-zero-shot" in out
        assert not registry().broken()


def test_a_hook_that_refuses_stops_the_run(ttt):
    class Listener:
        @hookimpl
        def ttt_bench_run_started(self, run):
            raise UserError("the tracker has no project of this name; create it")

    with registered(plugins=[Listener()]):
        code, _, err = ttt("run", *RUN, "-d", "cifar10-c-mini", "--device", "cpu")
    assert code == 2
    assert "the tracker has no project of this name; create it" in err


def test_hooks_get_copies(run_json, records_of):
    (expected,) = run_json(*RUN, "--output", "undisturbed")
    seen = []

    class Vandal:
        @hookimpl
        def ttt_bench_run_started(self, run):
            run.card.clear()

        @hookimpl
        def ttt_bench_chunk_finished(self, run, records):
            run.card.clear()
            records.sample_id.clear()
            records.prediction.sort()

        @hookimpl
        def ttt_bench_run_finished(self, run, summary):
            summary.clear()

    class Listener:
        @hookimpl
        def ttt_bench_chunk_finished(self, run, records):
            seen.extend(records.sample_id)

        @hookimpl
        def ttt_bench_run_finished(self, run, summary):
            seen.append((len(run.card), summary["top1"]))

    # pluggy calls the plugin first that was registered last.
    with registered(plugins=[Listener(), Vandal(), Listener()]):
        (run,) = run_json(*RUN, "--output", "disturbed")
    assert run["top1"] == expected["top1"]
    assert seen.count((2, run["top1"])) == 2
    assert len(seen) == 2 * 160 + 2
    assert records_equal(records_of(run), records_of(expected))
