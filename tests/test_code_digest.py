"""The code that makes a run is part of its card."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_plugins import fake_distribution
from ttt_bench import AdapterSpec
from ttt_bench.runner import continuing
from ttt_bench.runs.code import changed_files, code_files, combined

PLUGIN = '''
"""A method of a single file."""
from ttt_bench import Adapter, AdapterConfig, AdapterSpec, Prediction, hookimpl

class Edited(Adapter[AdapterConfig]):
    """A method that is edited."""

    def adapt(self, samples, rngs):
        # A comment.
        return [Prediction(self.task.logits(f)) for f in self.task.encode_image(samples)]

@hookimpl
def ttt_bench_adapters():
    return [AdapterSpec(name="edited", summary="edited", code="edited_method:Edited")]
'''
SAME = PLUGIN.replace("# A comment.", "# Another\n        # comment.").replace(
    '"""A method that is edited."""', '"""Other words."""'
)
NEGATED = PLUGIN.replace("Prediction(self", "Prediction(-self")
OPTIONS = ("-m", "edited", "-d", "cifar10-c-mini", "--device", "cpu", "--limit", "8")


def run(folder: Path, source: str, *options: str) -> tuple[int, str, str]:
    """Run the method with this source, in a process of its own."""
    (folder / "site" / "edited_method.py").write_text(source)
    command = [sys.executable, "-m", "ttt_bench", "run", *OPTIONS, "--format", "json", *options]
    program = (
        f"import sys; sys.path.insert(0, {str(folder / 'site')!r}); sys.argv = {command[2:]!r}; "
        "from ttt_bench.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    fake_distribution(tmp_path / "site", "edited_method", PLUGIN)
    return tmp_path


def test_an_edited_method_is_another_run(folder: Path):
    code, out, err = run(folder, PLUGIN)
    assert code == 0, err
    (first,) = json.loads(out)["runs"]
    code, out, err = run(folder, SAME)
    assert "continues with 8 of 8" in err
    assert json.loads(out)["runs"][0]["path"] == first["path"]
    code, out, err = run(folder, NEGATED)
    assert code == 0, err
    (second,) = json.loads(out)["runs"]
    assert second["path"] != first["path"]
    assert second["top1"] != first["top1"]


def test_a_folder_of_other_code_is_refused_by_file_and_fresh_starts_anew(folder: Path):
    assert run(folder, PLUGIN, "-o", "r")[0] == 0
    code, out, err = run(folder, NEGATED, "-o", "r")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "edited_method.py" in err
    assert "--fresh" in err
    code, out, err = run(folder, NEGATED, "-o", "r", "--fresh")
    assert code == 0, err
    assert (folder / "r/cifar10-c-mini/edited.1/manifest.json").exists()


def test_files_of_a_package_count_by_what_they_do(tmp_path: Path, monkeypatch):
    package = tmp_path / "some_package"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Words."""\nx = 1\n')
    (package / "weights" / "w.bin").write_bytes(b"1")
    monkeypatch.syspath_prepend(tmp_path)
    spec = AdapterSpec(name="any", summary="", code="some_package.method:Any")
    before = code_files(spec)
    assert set(before) == {"some_package/__init__.py", "some_package/weights/w.bin"}
    (package / "__init__.py").write_text('"""Other words, longer."""\n\n# more\nx = (1)\n')
    assert combined(code_files(spec)) == combined(before)
    (package / "weights" / "w.bin").write_bytes(b"22")
    assert changed_files(before, code_files(spec)) == ["some_package/weights/w.bin"]
    (package / "new.py").write_text("y = 2\n")
    assert "some_package/new.py" in changed_files(before, code_files(spec))


def test_a_half_finished_run_is_not_continued_by_other_code_of_the_harness(
    run_json, ttt, monkeypatch
):
    run = ("-m", "clip-zero-shot", "--limit", "80", "-o", "r")
    run_json(*run)
    with monkeypatch.context() as patch:
        patch.setattr(continuing, "engine_digest", lambda: "other")
        # A finished run stays a fact.
        run_json(*run)
        Path("r/cifar10-c-mini/clip-zero-shot/chunks/000001.parquet").unlink()
        code, out, err = ttt("run", "-d", "cifar10-c-mini", "--device", "cpu", *run)
    assert (code, out) == (2, "")
    assert "half finished by other code of ttt-bench" in err
    run_json(*run)
