"""`ttt-bench check`: its lines, its exit codes, bad input, and what the list of checks imports."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.planted.faults import planted_methods, planted_spec
from ttt_bench import UserError, registered
from ttt_bench.testing import CATALOGUE, adapter_checks
from ttt_bench.testing.suite import checks_of_kind

FEW = ("--only", "check_a_b_a", "--only", "check_parameters_restored", "--device", "cpu")


@pytest.fixture(autouse=True)
def planted() -> Iterator[None]:
    with planted_methods():
        yield


def test_command_prints_a_line_for_each(ttt):
    code, out, err = ttt("check", "clip-zero-shot", *FEW, "--only", "check_last_step_reported")
    assert (code, err) == (0, "")
    lines = [line.split(None, 2) for line in out.splitlines()]
    assert [(name, status) for name, status, _ in lines[:-1]] == [
        ("check_last_step_reported", "skipped"),
        ("check_a_b_a", "passed"),
        ("check_parameters_restored", "passed"),
    ]
    assert lines[0][2] == "does not iterate"
    assert out.splitlines()[-1] == (
        "clip-zero-shot on tiny-clip and cifar10-c-mini: 2 passed, 0 failed, 1 skipped"
    )


def test_command_fails_with_1(ttt):
    code, out, err = ttt("check", "state-leaks-weightskept", *FEW, "--format", "json")
    assert (code, err) == (1, "")
    printed = json.loads(out)
    assert (printed["method"], printed["ok"]) == ("state-leaks-weightskept", False)
    assert (printed["backbone"], printed["dataset"]) == ("tiny-clip", "cifar10-c-mini")
    assert [check["status"] for check in printed["checks"]] == ["failed", "failed"]
    assert printed["counts"] == {"passed": 0, "failed": 2, "skipped": 0, "known failure": 0}
    assert "(tolerance 0: bit for bit)" in printed["checks"][0]["found"]
    assert "adapter.net.0.weight has changed" in printed["checks"][1]["found"]


def test_a_known_failure_is_told_apart_and_ends_with_0(ttt):
    spec = replace(
        planted_spec("state_leaks.WeightsKept"),
        name="declared",
        known_failures={"check_a_b_a": "as published", "check_parameters_restored": "as published"},
    )
    with registered(adapters=[spec]):
        code, out, err = ttt("check", "declared", *FEW)
    assert (code, err) == (0, "")
    first, second, last = out.splitlines()
    assert re.match(r"check_a_b_a +known failure  as published \(sample 1 again", first)
    assert re.match(r"check_parameters_restored +known failure  as published \(after", second)
    assert last.endswith(": 0 passed, 0 failed, 0 skipped, 2 known failures")


def test_settings_and_samples_reach_the_method(ttt):
    for setting in ("steps=3", "clean-fitted.steps=3"):
        code, out, _ = ttt(
            "check", "clean-fitted", "--only", "check_prediction_scores", "--set", setting
        )
        assert code == 0
        assert "3 steps" in out
    code, out, _ = ttt("check", "clip-zero-shot", "--only", "check_a_b_a", "--samples", "4")
    assert code == 0
    assert "samples 2 to 4" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("amp",), ["method 'amp'", "apm"]),
        (("apm", "--only", "aba"), ["check 'aba'", "check_a_b_a"]),
        (("apm", "--only", "check_samples_kept"), ["not asked of methods of kind sample"]),
        (("apm", "--samples", "2"), ["2", "3"]),
        (("apm", "--set", "step=3"), ["'step'", "steps"]),
        (("apm", "--set", "steps"), ["KEY=VALUE"]),
        (("apm", "--set", "tpt.steps=3"), ["'tpt.steps'"]),
        (("apm", "--dataset", "cifar"), ["dataset 'cifar'"]),
        (("apm", "--backbone", "tinyclip"), ["backbone 'tinyclip'", "tiny-clip"]),
        (("apm", "--weights", "x.pth"), ["--weights needs --backbone"]),
        (("apm", "--backbone", "tiny-clip", "--weights", "x.pth"), ["leave --weights out"]),
        (("tpt", "--backbone", "tiny-mae"), ["tpt needs", "DualEncoder"]),
        (("coop", "--set", "checkpoint=nowhere.pt"), ["nowhere.pt"]),
        (("apm", "--set", "grid=6"), ["image_size=32", "grid=6"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_is_one_line(ttt, arguments, expected):
    code, out, err = ttt("check", *arguments)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    assert all(word in line for word in expected), line
    assert "Traceback" not in err


def test_too_few_samples_and_unknown_names_are_refused():
    with pytest.raises(UserError, match="at least 3"):
        adapter_checks("apm", samples=2)
    with pytest.raises(UserError, match="did you mean apm"):
        adapter_checks("amp")
    with pytest.raises(UserError, match="cifar10-c-mini"):
        adapter_checks("apm", dataset="cifar10-c-mni")


def test_the_list_of_checks_imports_nothing_heavy(tmp_path: Path):
    code = (
        "import sys; from ttt_bench.testing import adapter_checks\n"
        "print(len(adapter_checks('apm')))\n"
        "assert not {'torch', 'numpy', 'pydantic', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert int(done.stdout) == len(checks_of_kind("sample"))


def test_the_docs_have_every_check_and_its_kinds():
    text = (Path(__file__).parents[1] / "docs" / "checks.md").read_text("utf-8")
    sections = re.findall(r"^### (check_\w+)\n\n\*Kinds: ([a-z, ]+)\.\*$", text, re.MULTILINE)
    assert sections == [
        (name, ", ".join(sorted(declared.kinds, key=["sample", "batch", "stream"].index)))
        for name, declared in CATALOGUE.items()
    ]
