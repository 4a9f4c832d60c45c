"""A run survives being killed: the same command ends with what an undisturbed run gives."""

import json
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

from tests.records_equal import records_equal
from ttt_bench.cli import main
from ttt_bench.runs.folder import RunFolder

RUN = ("run", "-d", "cifar10-c-mini", "--device", "cpu", "--format", "json", "--limit", "1600")
METHOD = ("-m", "apm", "--set", "steps=10")
KILLS = 20


def folder(output: str) -> RunFolder:
    return RunFolder(Path(output) / "cifar10-c-mini" / "apm")


def assert_same_run(one: RunFolder, other: RunFolder) -> None:
    assert records_equal(one.read_records(), other.read_records())
    mine, theirs = (run.read_json("summary.json", run.card().key) for run in (one, other))
    # What a sample took is measured, everything else computed.
    mine["cost"].pop("ms_per_sample"), theirs["cost"].pop("ms_per_sample")
    assert mine == theirs
    assert one.card() == other.card()


def test_a_run_killed_twenty_times_ends_like_an_undisturbed_one(ttt, run_json):
    killing = Path(__file__).parent / "kill_driver.py"
    command = [sys.executable, str(killing), "0", str(KILLS), *RUN, *METHOD, "-o", "killed"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"killed {KILLS} times" in done.stdout
    assert "continues with" in done.stderr
    code, _, err = ttt(*RUN, *METHOD, "-o", "undisturbed")
    assert code == 0, err
    assert_same_run(folder("killed"), folder("undisturbed"))


def work(output: str) -> None:
    main([*RUN[:-1], "320", *METHOD, "-o", output])


def test_two_processes_on_one_folder(ttt, tmp_path: Path):
    """Both finish, and nothing is torn."""
    context = get_context("spawn")
    both = [context.Process(target=work, args=(str(tmp_path / "shared"),)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=300)
    assert [process.exitcode for process in both] == [0, 0]
    assert ttt(*RUN[:-1], "320", *METHOD, "-o", "alone")[0] == 0
    assert_same_run(folder("shared"), folder("alone"))
    assert not list(Path("shared").rglob("*.tmp"))
    json.loads((folder("shared").path / "manifest.json").read_text())
