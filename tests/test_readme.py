"""The README's own method, typed as it stands there, installs, lists and runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    return found


def test_the_readmes_method(tmp_path: Path):
    source, site = tmp_path / "mirror", tmp_path / "site"
    source.mkdir()
    (source / "mirror.py").write_text(block("python"))
    (source / "pyproject.toml").write_text(block("toml"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*command, *options, str(source)], check=True)
    arguments = ["run", "--method", "mirror", "--dataset", "cifar10-c-mini", "--limit", "40"]
    done = subprocess.run(
        [sys.executable, "-m", "ttt_bench", *arguments, "--set", "weight=0.3", "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    (run,) = json.loads(done.stdout)["runs"]
    assert (run["method"], run["n"]) == ("mirror", 40)


def test_every_command_of_the_readme_is_known():
    from click.testing import CliRunner

    from ttt_bench.cli import cli

    commands = re.findall(r"ttt-bench ([a-z-]+)", README.read_text("utf-8"))
    assert {"run", "list", "show", "compare"} <= set(commands)
    for name in {name for name in commands if not name.startswith("-")} - {"developers"}:
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0, name


def test_the_first_command_of_the_readme_is_the_one_of_its_table():
    from tools.make_results import SETS

    (first,) = [result for result in SETS if result.file == "README.md"]
    lines = README.read_text("utf-8").splitlines()
    (line,) = [line for line in lines if re.match(r"pip install .* && ttt-bench run ", line)]
    assert line.endswith(f"&& {first.command}")
