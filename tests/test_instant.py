"""The command line is instant: what only reads or lists imports nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "numpy", "scipy", "pyarrow", "pydantic", "PIL", "open_clip", "timm", "rich"}
SNIPPET = """
import json, sys
sys.argv = ["ttt-bench", *json.loads({arguments!r})]
try:
    {statement}
except SystemExit as left:
    assert not left.code, left.code
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""


def modules(statement: str, arguments: list[str], folder: Path) -> set[str]:
    code = SNIPPET.format(arguments=json.dumps(arguments), statement=statement)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


MAIN = "from ttt_bench.cli import main; main()"


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        ("import ttt_bench", []),
        (MAIN, ["--help"]),
        (MAIN, ["run", "--help"]),
        (MAIN, ["list", "methods"]),
        (MAIN, ["list", "plugins", "--format", "json"]),
        (MAIN, ["show", "cifar10-c-mini"]),
        (MAIN, ["data", "--help"]),
        (MAIN, ["report", "--help"]),
        (MAIN, ["plot", "--help"]),
        (MAIN, ["check", "--help"]),
        (MAIN, ["doctor", "--help"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_heavy(statement: str, arguments: list[str], tmp_path: Path):
    loaded = modules(statement, arguments, tmp_path)
    assert "ttt_bench" in loaded
    assert not loaded & HEAVY


def test_compare_imports_no_torch(run_json, tmp_path: Path):
    run_json("--method", "clip-zero-shot", "--limit", 20, "--output", tmp_path / "runs")
    loaded = modules(MAIN, ["compare", str(tmp_path / "runs")], tmp_path)
    assert "scipy" in loaded
    assert "torch" not in loaded
