"""`ttt-bench doctor`: what it prints, what it names as broken, and the proof on the CPU."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_plugins import fake_distribution, ttt_bench
from ttt_bench import AdapterSpec, GoldenSpec, UserError, registered
from ttt_bench.cli import doctor
from ttt_bench.doctor.folders import folder
from ttt_bench.doctor.machine import Device, device_named, machine
from ttt_bench.doctor.proof import CHECKED, ON_A_CPU, ON_CUDA, Effort, prove
from ttt_bench.doctor.speed import SpeedTest, matmul_rate
from ttt_bench.registry import registry
from ttt_bench.runner.settings import resolve_config
from ttt_bench.toolkit.cores import usable_cores

CPU = Device("cpu", "a processor", 1.0)
APM = {"steps": 1, "image_size": 32, "grid": 4, "widths": [16, 16, 8]}
SMALL = Effort(
    goldens=("tpt", "ttt_mae"),
    checked={"apm": {"steps": 1}},
    architecture="ViT-S-32",
    classes=3,
    speeds=(
        SpeedTest("clip-zero-shot", 2),
        SpeedTest("tpt", 1, {"views": 10}),
        SpeedTest("apm", 1, APM),
        SpeedTest("clip-zero-shot", 2, precision="tf32"),
    ),
)
NOTHING = Effort(goldens=(), checked={}, architecture="ViT-S-32", classes=2, speeds=())


def test_the_page_fits_80_columns_and_nothing_is_broken(ttt):
    code, out, err = ttt("doctor", "--device", "cpu")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for title in ("Versions", "Machine", "Devices", "Plugins", "Folders"):
        assert f"\n{title}\n" in f"\n{out}"
    assert f"torch {torch.__version__.partition('+')[0]}" in out
    assert out.splitlines()[-1] == "Nothing is broken."


def test_json_holds_what_the_page_says(ttt, tmp_path: Path):
    code, out, _ = ttt("doctor", "--format", "json", "--data-root", tmp_path / "data")
    printed = json.loads(out)
    assert (code, printed["ok"], printed["problems"], printed["proofs"]) == (0, True, [], [])
    assert printed["devices"][0]["name"] == "cpu"
    assert 1 <= printed["machine"]["usable_cores"] <= printed["machine"]["cores"]
    assert printed["machine"]["memory_gb"] > 0
    names = {plugin["name"] for plugin in printed["plugins"]}
    assert {"baselines", "apm", "tpt", "ttt_mae"} <= names
    assert all(plugin["specs"] and not plugin["problems"] for plugin in printed["plugins"])
    folders = {(one["purpose"], one["path"]): one for one in printed["folders"]}
    assert {purpose for purpose, _ in folders} == {"feature cache", "runs", "data"}
    given = folders["data", str(tmp_path / "data")]
    assert (given["exists"], given["writable"], given["problem"]) == (False, True, False)
    assert not (tmp_path / "data").exists()


def test_a_plugin_that_does_not_import_is_named(tmp_path: Path):
    site = fake_distribution(tmp_path, "zz_broken", "raise RuntimeError('no GPU driver')")
    done = ttt_bench("doctor", "--format", "json", "--device", "cpu", path=site, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    printed = json.loads(done.stdout)
    assert printed["problems"] == [
        "plugin zz_broken (zz_broken) is broken: RuntimeError: no GPU driver"
    ]
    broken = [plugin["name"] for plugin in printed["plugins"] if plugin["problems"]]
    assert broken == ["zz_broken"]


def test_code_that_does_not_load_and_a_missing_golden_file_are_named(ttt):
    missing = AdapterSpec(name="mine", summary="mine", code="a_module_that_is_not_there:Mine")
    wrong = AdapterSpec(name="number", summary="number", code=f"{__name__}:NUMBER")
    with registered(adapters=[missing, wrong], goldens=[golden("exact")], name="zz"):
        code, out, _ = ttt("doctor", "--format", "json")
    assert code == 1
    first, second, third = json.loads(out)["problems"]
    assert first.startswith(
        "plugin zz (this process) is broken: mine: cannot load a_module_that_is"
    )
    assert second.endswith(f"number: {__name__}:NUMBER is neither a class nor a function")
    assert third.endswith(f"exact: there is no file {Path(__file__).parent / 'none.npz'}")


NUMBER = 3


def test_a_cache_that_cannot_be_written_is_named(ttt, tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TTT_BENCH_CACHE", str(tmp_path / "file"))
    code, out, _ = ttt("doctor")
    assert code == 1
    text = " ".join(out.split())
    assert "not writable" in text
    assert "Broken feature cache: cannot write to" in text
    assert "is no folder" in text


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder that nobody can write to")
def test_a_read_only_folder_matters_where_something_must_be_written():
    cache, data = folder("feature cache", Path("/proc/cache")), folder("data", Path("/proc"), False)
    assert (cache.writable, cache.problem, cache.exists) == (False, True, False)
    assert cache.reason
    assert (data.writable, data.problem, data.exists) == (False, False, True)


def test_looking_at_a_folder_leaves_nothing_in_it(tmp_path: Path):
    state = folder("runs", tmp_path / "a" / "b")
    assert (state.writable, state.exists, state.problem) == (True, False, False)
    assert not list(tmp_path.iterdir())


def test_an_unknown_device_is_refused_in_one_line(ttt):
    code, out, err = ttt("doctor", "--device", "cuda:99")
    assert (code, out) == (2, "")
    assert err.startswith("ttt-bench: --device cuda:99: PyTorch finds no such device here; choose")


def test_a_device_is_found_by_its_name():
    gpus = [CPU, Device("cuda:0", "first", 80.0), Device("cuda:1", "second", 80.0)]
    assert device_named("cuda", gpus).product == "first"
    assert device_named("cuda:1", gpus).product == "second"
    with pytest.raises(UserError, match="choose from cpu, cuda:0, cuda:1"):
        device_named("mps", gpus)


def test_a_quota_of_a_container_limits_the_cores(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("ttt_bench.toolkit.cores.CONTROL_GROUP", tmp_path)
    without = usable_cores()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("2000000000\n")
    assert usable_cores() == without
    assert machine().memory_gb == 2.0
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert usable_cores() == 1


def test_the_cpu_proves_itself(tmp_path: Path, monkeypatch, capsys):
    """Goldens, checks and speeds in the small; the command takes everything at its own size."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    assert doctor.print_examination(True, "cpu", None, "json", SMALL)
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert (printed["ok"], printed["problems"]) == (True, [])
    (proof,) = printed["proofs"]
    assert (proof["device"], proof["threads"]) == ("cpu", 1)
    assert [row["name"] for row in proof["goldens"]] == ["tpt", "ttt_mae"]
    assert all(row["difference"] <= row["tolerance"] for row in proof["goldens"])
    (checks,) = proof["checks"]
    assert checks["counts"]["passed"] >= 20
    assert checks["counts"]["failed"] == 0
    assert [row["name"] for row in proof["speeds"]] == [
        "clip-zero-shot", "tpt", "apm", "clip-zero-shot",
    ]  # fmt: skip
    matmul = proof["matmul_gflops_per_second"]
    assert set(matmul) == {"fp32", "tf32"}
    assert [row["precision"] for row in proof["speeds"]] == ["fp32", "fp32", "fp32", "tf32"]
    for row in proof["speeds"]:
        reached = row["gflops_per_sample"] / row["seconds_per_sample"]
        assert row["gflops_per_second"] == pytest.approx(reached)
        assert row["share"] == pytest.approx(reached / matmul[row["precision"]])
        assert 0 < row["share"] < 1.5
    # ViT-S/32's image tower on one image: 50 tokens through 12 blocks of width 384.
    assert 1.5 < proof["speeds"][0]["gflops_per_sample"] < 3
    for line in ("golden tpt on cpu", "checks of apm on cpu", "speed of apm on cpu"):
        assert line in err
    assert torch.get_num_threads() == threads


def compute_exact(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Any]:
    return {"out": (np.ones(2), np.ones(2))}


def compute_off(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Any]:
    return {"out": (np.ones(2), np.full(2, 1.1))}


def compute_nan(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Any]:
    return {"out": (np.full(2, np.nan), np.ones(2))}


def compute_raising(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Any]:
    raise RuntimeError(f"no kernel image on {device}")


def golden(name: str, file: str = "none.npz") -> GoldenSpec:
    """A golden of this file's own."""
    return GoldenSpec(
        name=name, summary=name, code=f"{__name__}:compute_{name}", file=file,
        arrays=frozenset({"none"}),
    )  # fmt: skip


def test_what_fails_on_a_device_is_named_and_stops_nothing_else(tmp_path: Path, capsys):
    np.savez(tmp_path / "some.npz", none=np.zeros(1))
    file = str(tmp_path / "some.npz")
    specs = [golden(name, file) for name in ("exact", "off", "nan", "raising")]
    effort = Effort(
        goldens=("exact", "off", "nan", "raising"), checked={"tpt": {"views": -1}},
        architecture="ViT-S-32", classes=2, speeds=(SpeedTest("apm", 1, {"grid": 7}),),
    )  # fmt: skip
    with registered(goldens=specs):
        proof = prove(CPU, effort, lambda line: None)
        ok = doctor.print_examination(True, "cpu", None, "text", effort)
    exact, off, nan, raising = proof["goldens"]
    assert (exact["error"], exact["difference"]) == ("", 0)
    assert (off["error"], off["worst"]) == ("out differs from the release by 9.1e-02", "out")
    assert off["difference"] == pytest.approx(0.1 / 1.1)
    assert (nan["error"], nan["difference"]) == ("out is not a number", None)
    assert raising["error"] == "RuntimeError: no kernel image on cpu"
    assert "views" in proof["checks"][0]["error"]
    assert "grid" in proof["speeds"][0]["error"]
    assert not ok
    text = " ".join(capsys.readouterr().out.split())
    for problem in (
        "golden off on cpu: out differs from the release by 9.1e-02",
        "golden raising on cpu: RuntimeError: no kernel image on cpu",
        "checks of tpt on cpu: ",
        "speed of apm on cpu: ",
    ):
        assert problem in text.partition(" Broken ")[2]


def test_a_check_that_fails_is_named():
    from tests.planted.faults import planted_methods

    leaky = Effort(**{**vars(NOTHING), "checked": {"state-leaks-weightskept": {}}})
    with planted_methods():
        (checks,) = prove(CPU, leaky, lambda line: None)["checks"]
    assert checks["counts"]["failed"] > 0
    assert "check_a_b_a: " in checks["error"]


def test_everything_that_is_tried_by_default_is_registered_with_settings_that_are_accepted():
    assert set(CHECKED) == {"apm", "tpt", "ttt-mae"}
    tried = [*CHECKED.items(), *((t.method, t.settings) for t in (*ON_A_CPU, *ON_CUDA))]
    for method, settings in tried:
        config = resolve_config(registry().adapters.find(method).spec, "tiny-clip", "", settings)
        assert settings.items() <= config.items()


def test_a_matmul_rate_counts_two_operations_for_a_multiply_add(monkeypatch):
    seconds = iter(range(100))
    monkeypatch.setattr("ttt_bench.doctor.speed.time.perf_counter", lambda: next(seconds))
    assert matmul_rate(torch.device("cpu"), side=64) == 2 * 64**3
