"""`ttt-bench check`, and what stands around the checks: bad input, docs, imports."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.planted.faults import plant
from ttt_bench.api.errors import UserError
from ttt_bench.testing.suite import CATALOGUE, adapter_checks

FEW = ("--only", "a-b-a", "--only", "parameters-restored", "--device", "cpu")


def test_command_prints_a_line_for_each(ttt):
    code, out, err = ttt("check", "clip-zero-shot", *FEW, "--only", "last-step-reported")
    assert (code, err) == (0, "")
    lines = [line.split(None, 2) for line in out.splitlines()]
    assert [(name, status) for name, status, _ in lines[:-1]] == [
        ("last-step-reported", "skipped"),
        ("a-b-a", "ok"),
        ("parameters-restored", "ok"),
    ]
    assert lines[0][2] == "does not iterate"
    assert "tiny-clip and cifar10-c-mini: 0 of 3 checks failed" in out.splitlines()[-1]


def test_command_fails_with_1(ttt, monkeypatch):
    plant(monkeypatch)
    code, out, err = ttt("check", "kept-weightskept", *FEW, "--format", "json")
    assert (code, err) == (1, "")
    printed = json.loads(out)
    assert (printed["method"], printed["ok"]) == ("kept-weightskept", False)
    assert (printed["backbone"], printed["dataset"]) == ("tiny-clip", "cifar10-c-mini")
    assert [check["status"] for check in printed["checks"]] == ["FAILED", "FAILED"]
    assert "adapter.net.0.weight has changed" in printed["checks"][1]["found"]


def test_settings_reach_the_method(ttt, monkeypatch):
    plant(monkeypatch)
    for setting in ("steps=3", "clean-fitted.steps=3"):
        code, out, _ = ttt("check", "clean-fitted", "--only", "trajectory", "--set", setting)
        assert code == 0
        assert "3 steps" in out


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("amp",), ["method 'amp'", "apm"]),
        (("apm", "--only", "aba"), ["check 'aba'", "a-b-a"]),
        (("apm", "--set", "step=3"), ["'step'", "steps"]),
        (("apm", "--set", "steps"), ["KEY=VALUE"]),
        (("apm", "--set", "tpt.steps=3"), ["'tpt.steps'"]),
        (("apm", "--dataset", "cifar"), ["dataset 'cifar'"]),
        (("apm", "--backbone", "tinyclip"), ["backbone 'tinyclip'", "tiny-clip"]),
        (("tpt", "--backbone", "tiny-mae"), ["tpt needs", "text_tower"]),
        (("coop", "--set", "checkpoint=nowhere.pt"), ["nowhere.pt"]),
        (("apm", "--set", "grid=6"), ["image_size=32", "grid=6"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_is_one_line(ttt, arguments, wanted):
    code, out, err = ttt("check", *arguments)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    assert all(word in line for word in wanted), line
    assert "Traceback" not in err


def test_too_few_samples_and_unknown_names_are_refused():
    with pytest.raises(UserError, match="at least 3"):
        adapter_checks("apm", samples=2)
    with pytest.raises(UserError, match="did you mean apm"):
        adapter_checks("amp")
    with pytest.raises(UserError, match="cifar10-c-mini"):
        adapter_checks("apm", dataset="cifar10-c-mni")


def test_the_list_of_checks_imports_no_torch(tmp_path: Path):
    code = (
        "import sys; from ttt_bench.testing import adapter_checks\n"
        "print(len(adapter_checks('apm'))); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert int(done.stdout) == len(CATALOGUE)


def test_the_docs_have_every_check():
    text = (Path(__file__).parents[1] / "docs" / "checks.md").read_text("utf-8")
    assert re.findall(r"^### ([a-z-]+)$", text, re.MULTILINE) == list(CATALOGUE)
