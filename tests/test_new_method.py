"""The plugins that `new-method` writes install, conform and run, and the tutorial shows them."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.kills import killed
from tests.records_equal import records_equal
from tests.test_bad_input import one_line
from ttt_bench import AdapterSpec, registered
from ttt_bench.new_method.folder import TAKEN_CLASSES, check_name, plugin_files, write_plugin
from ttt_bench.runs.folder import RunFolder
from ttt_bench.testing import adapter_checks

ROOT = Path(__file__).parents[1]
TUTORIAL = (ROOT / "docs" / "writing-a-method.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_it_writes_what_it_says(ttt):
    code, out, err = ttt("new-method", "my-method")
    assert (code, err) == (0, "")
    *files, last = out.splitlines()
    written = [str(path) for path in Path("my-method").rglob("*") if path.is_file()]
    assert sorted(files) == sorted(written)
    assert last == "next: pip install -e ./my-method && ttt-bench check my-method"
    assert ttt("new-method", "my-method", "--output", "deep/er")[0] == 0
    assert Path("deep/er/ttt_bench_my_method/adapter.py").exists()


NAMES = [
    "", "My-Method", "my_method", "3d", "-x", "x-", "a--b", "a b", "a/b", "../up", "é", "a" * 41,
    "adapter", "none", "a\n", "a.b", "a;b", "{{ 7 * 7 }}",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_invalid_name_is_refused(ttt, name: str):
    one_line(ttt("new-method", "--", name), "cannot name a method")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["apm", "clip-zero-shot", "tpt-cocoop", "ttt-mae", "metrics"])
def test_a_taken_name_is_refused(ttt, name: str):
    one_line(ttt("new-method", name), f"{name} is", "already")
    assert list(Path().iterdir()) == []


def test_a_package_of_that_name_is_not_hidden(ttt, tmp_path: Path, monkeypatch):
    (tmp_path / "ttt_bench_mine").mkdir()
    (tmp_path / "ttt_bench_mine" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    one_line(ttt("new-method", "mine"), "installed plugin already")


def test_a_folder_that_is_not_empty_stays_as_it_is(ttt):
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("years of work")
    one_line(ttt("new-method", "mine"), "mine is not empty")
    assert os.listdir("mine") == ["thesis.tex"]
    Path("file").write_text("")
    one_line(ttt("new-method", "mine", "-o", "file"), "file")
    one_line(ttt("new-method", "mine", "-o", "file/deeper"), "cannot write file/deeper")
    one_line(ttt("new-method"), "NAME")
    Path("empty").mkdir()
    assert ttt("new-method", "mine", "-o", "empty")[0] == 0


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("name", ["x", "my-method", "a1-b2-c3", "class", "import", "a" * 40])
def test_any_name_gives_sound_files(name: str, online: bool):
    check_name(name)
    files = plugin_files(name, online)
    for path, text in files.items():
        assert text.endswith("\n")
        assert "{{" not in text
        if path.endswith(".py"):
            ast.parse(text)
    project = tomllib.loads(files["pyproject.toml"])
    module = project["project"]["entry-points"]["ttt_bench"][name]
    assert f"{module.replace('.', '/')}.py" in files
    (package,) = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert f"{package}/adapter.py" in files


@pytest.mark.parametrize("online", [False, True])
def test_no_class_can_hide_what_its_module_imports(online: bool):
    adapter = plugin_files("x", online)["ttt_bench_x/adapter.py"]
    imported = {
        alias.name
        for node in ast.walk(ast.parse(adapter))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    single = {name for name in imported if re.fullmatch("[A-Z][a-z0-9]*", name)}
    assert single <= TAKEN_CLASSES


@pytest.mark.parametrize("online", [False, True])
def test_the_generated_code_is_tidy(tmp_path: Path, online: bool):
    write_plugin("my-method", tmp_path, online)
    for words in (["check"], ["format", "--check"]):
        command = ["ruff", *words, "--no-cache", "."]
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_tutorial_shows_the_generated_files():
    """Every block of code is one of a file's, in its order, and every such file is shown whole."""
    rest = plugin_files("my-method")
    online = plugin_files("my-online", online=True)
    rest |= {path: text for path, text in online.items() if path.endswith("/adapter.py")}
    for language, title, text in BLOCK.findall(TUTORIAL):
        assert bool(title) == (language != "sh"), text
        if title:
            before, found, rest[title] = rest[title].partition(text)
            assert found, f"{title} has no such lines, or not there:\n{text}"
            assert before.strip() == "", f"{title}: left out before a block:\n{before}"
    shown = {path for path in rest if not path.endswith(("README.md", "__init__.py"))}
    assert {path: rest[path].strip() for path in shown} == dict.fromkeys(shown, "")


@pytest.fixture
def online_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdapterSpec:
    """The method of a folder that `new-method --online` wrote, which Python finds."""
    site = tmp_path / "written"
    write_plugin("drawn-out", site, online=True)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    (spec,) = importlib.import_module("ttt_bench_drawn_out.plugin").ttt_bench_adapters()
    return spec


def test_an_online_method_conforms_and_goes_on_after_kills(ttt, online_spec: AdapterSpec):
    with registered(adapters=[online_spec]):
        findings = {check.name: check() for check in adapter_checks("drawn-out", samples=3)}
    assert "the same bits from each" in findings["check_state_saved"].text
    run = ["run", "-m", "drawn-out", "-d", "cifar10-c-mini", "--device", "cpu", "--limit", "192"]
    run += ["--stream", "mixed"]
    assert "continues with" in killed(0, 6, [*run, "-o", "killed"], "ttt_bench_drawn_out.plugin")
    with registered(adapters=[online_spec]):
        assert ttt(*run, "-o", "undisturbed")[0] == 0
    one, other = (
        RunFolder(Path(name) / "cifar10-c-mini" / "drawn-out") for name in ("killed", "undisturbed")
    )
    assert records_equal(one.read_records(), other.read_records())


@pytest.fixture
def fresh(tmp_path: Path) -> dict[str, str]:
    """An environment into which pip installs beside the installed packages, without a network."""
    site = tmp_path / "site"
    site.mkdir()
    # Read at the start of every Python, so that editable installations there count as well.
    hook = f"import site; site.addsitedir({str(site)!r})"
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(hook)
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "hook"),
        "PIP_TARGET": str(site),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }


def test_the_tutorials_commands_work(fresh: dict[str, str], tmp_path: Path):
    """Type them one after another: new-method, pip install, check, pytest, run, compare."""
    home = tmp_path / "home"
    home.mkdir()
    lines = [
        line
        for language, _, text in BLOCK.findall(TUTORIAL)
        if language == "sh"
        for line in text.splitlines()
    ]
    assert len(lines) == 7
    printed = {}
    for line in lines:
        done = subprocess.run(
            line, shell=True, cwd=home, env=fresh, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        printed[line] = done.stdout
    assert ", 0 failed, 0 skipped" in printed["ttt-bench check my-method"]
    assert re.search(r"\d{2} passed", printed["pytest my-method"])
    (manifest,) = home.glob("ttt-bench-runs/*/my-method-*/manifest.json")
    assert json.loads(manifest.read_text())["samples"] == 32
    summary = json.loads(manifest.with_name("summary.json").read_text())
    # The method changes predictions, and its cost shows how many parameters it updates.
    assert len(summary["step_top1"]) == 4
    assert summary["changed"] is not None
    assert summary["cost"]["parameters_updated"] == 128
    again = subprocess.run(
        "ttt-bench new-method my-method -o other", shell=True, cwd=home, env=fresh,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 2
    assert "my-method is a method of ttt-bench-my-method already" in again.stderr
