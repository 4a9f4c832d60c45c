"""Third-party plugins work like ours, and a broken one stops nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

THIRD_PARTY = Path(__file__).parent / "third_party"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The third-party distributions, installed by pip into a folder of their own."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "third_party"
    shutil.copytree(THIRD_PARTY, source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([*command, *options, str(source), str(source / "mirror")], check=True)
    return folder


def fake_distribution(folder: Path, module: str, source: str) -> Path:
    """A distribution as an installer leaves it: a module and its entry point."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ttt_bench]\n{module} = {module}\n")
    return folder


def ttt_bench(*arguments: str, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, "-m", "ttt_bench", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        check=False,
    )


def test_third_party_method_lists_and_runs(site: Path, tmp_path: Path):
    listed = ttt_bench("list", "methods", path=site, cwd=tmp_path)
    assert "jitter" in listed.stdout
    ran = ttt_bench(
        "run", "-m", "jitter", "-d", "cifar10-c-mini", "--limit", "40", "--format", "json",
        path=site, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (run,) = json.loads(ran.stdout)["runs"]
    assert (run["method"], run["n"]) == ("jitter", 40)
    # A metric of its own, too, and a command.
    assert run["error"] == pytest.approx(100 - run["top1"])
    assert ttt_bench("greet", path=site, cwd=tmp_path).stdout == "hello from a plugin\n"


def test_a_method_in_one_file_runs_with_a_field_of_its_configuration(site: Path, tmp_path: Path):
    ran = ttt_bench(
        "run", "-m", "mirror", "-d", "cifar10-c-mini", "--limit", "20", "--set", "weight=0.3",
        "--format", "json", path=site, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (run,) = json.loads(ran.stdout)["runs"]
    assert (run["method"], run["n"]) == ("mirror", 20)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("raise RuntimeError('no GPU driver')", "RuntimeError: no GPU driver"),
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("import sys; sys.exit(7)", "SystemExit: 7"),
        ("def f(:", "SyntaxError"),
        (
            "from ttt_bench import hookimpl\n"
            "@hookimpl\ndef ttt_bench_adapters(): raise ValueError('half done')",
            "ValueError: half done",
        ),
        (
            "from ttt_bench import AdapterSpec, hookimpl\n"
            "@hookimpl\ndef ttt_bench_adapters():\n"
            "    return [AdapterSpec(name='apm', summary='mine', code='x:y')]",
            "taken by plugin 'apm'",
        ),
        (
            "from ttt_bench import hookimpl\n@hookimpl\ndef ttt_bench_adaptors(): return []",
            "unknown hook 'ttt_bench_adaptors'",
        ),
        (
            "from ttt_bench import hookimpl\n@hookimpl\ndef ttt_bench_adapters(): return ['apm']",
            "TypeError: 'apm' is not a AdapterSpec",
        ),
    ],
)
def test_broken_plugin_is_listed_and_stops_nothing(source: str, error: str, tmp_path: Path):
    site = fake_distribution(tmp_path, "zz_broken", source)
    listed = ttt_bench("list", "plugins", path=site, cwd=tmp_path)
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("zz_broken")]
    assert "broken" in line
    assert error in line
    methods = ttt_bench("list", "methods", path=site, cwd=tmp_path)
    assert {"apm", "clip-zero-shot"} <= {line.split()[0] for line in methods.stdout.splitlines()}
    assert "zz_broken" in methods.stderr
    assert ttt_bench("--help", path=site, cwd=tmp_path).returncode == 0


HOOKS = """
from ttt_bench import hookimpl
@hookimpl
def ttt_bench_commands(cli): raise ValueError("no commands today")
@hookimpl
def ttt_bench_run_started(run): raise ConnectionError("tracker is down")
"""


def test_a_plugin_that_raises_when_called_stops_nothing(tmp_path: Path):
    site = fake_distribution(tmp_path, "zz_broken", HOOKS)
    helped = ttt_bench("--help", path=site, cwd=tmp_path)
    assert helped.returncode == 0
    assert "no commands today" in helped.stderr
    arguments = ("run", "-m", "clip-zero-shot", "-d", "cifar10-c-mini", "--limit", "4")
    ran = ttt_bench(*arguments, path=site, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "tracker is down" in ran.stderr
    assert "Traceback" not in ran.stderr
