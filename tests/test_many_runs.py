"""Many runs are read in several processes, with the results and messages of one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ttt_bench.compare.processes import MANY_RUNS


@pytest.fixture
def many(run_json, tmp_path: Path) -> Path:
    """Return a folder of more runs than one process reads."""
    (run,) = run_json("-m", "apm", "--set", "steps=2", "--limit", 40, "-o", tmp_path / "first")
    for number in range(MANY_RUNS + 1):
        shutil.copytree(run["path"], tmp_path / "many" / f"{number}")
    return tmp_path / "many"


def compare_elsewhere(folder: Path) -> subprocess.CompletedProcess[str]:
    """Compare in a process of its own, which may fork: nothing has imported torch there."""
    command = [sys.executable, "-m", "ttt_bench", "compare", str(folder), "--format", "json"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_numbers_are_those_of_one_process(ttt, many: Path):
    code, out, err = ttt("compare", many, "--format", "json")
    assert code == 0, err
    done = compare_elsewhere(many)
    assert (done.returncode, done.stderr) == (0, err)
    assert json.loads(done.stdout) == json.loads(out)
    assert len(json.loads(out)["rows"]) == MANY_RUNS + 1


@pytest.mark.parametrize("damage", ["unfinished", "damaged"])
def test_the_messages_are_those_of_one_process(ttt, many: Path, damage: str):
    chunk = next((many / "3" / "chunks").glob("*.parquet"))
    if damage == "unfinished":
        chunk.unlink()
    else:
        chunk.write_bytes(chunk.read_bytes()[:-40] + b"0" * 40)
    code, _, err = ttt("compare", many, "--format", "json")
    done = compare_elsewhere(many)
    assert (done.returncode, done.stderr) == (code, err)
    assert (code, str(many / "3") in err) == (0 if damage == "unfinished" else 2, True)
