"""What the tests share."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Before anything imports torch: the tests' own processes fill the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from ttt_bench.api.records import Records
from ttt_bench.cli import main
from ttt_bench.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test takes features from the user's cache, from another test's, or leaves any there."""
    monkeypatch.setenv("TTT_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def ttt(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Type a command in an empty folder; returns exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TTT_BENCH_DATA", raising=False)
    # The processes of pytest-xdist have the width of a terminal; tables go into a pipe here.
    monkeypatch.delenv("COLUMNS", raising=False)

    def command(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return command


@pytest.fixture
def run_json(ttt: Command) -> Callable[..., list[dict]]:
    """`ttt-bench run ... --format json` on the embedded set; returns the list of runs."""

    def run(*arguments: object) -> list[dict]:
        code, out, err = ttt(
            "run", "--dataset", "cifar10-c-mini", "--format", "json", "--device", "cpu", *arguments
        )
        assert code == 0, err
        return json.loads(out)["runs"]

    return run


@pytest.fixture
def records_of() -> Callable[[dict], Records]:
    """The saved records of a run that `run --format json` printed."""
    return lambda run: RunFolder(Path(run["path"])).read_records()
