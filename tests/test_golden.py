"""Our methods give the numbers of the original releases."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from ttt_bench_apm.goldens.drawn import draw_parameters

from tests import golden_check
from tests.oracles import apm_ssl, mae
from tests.oracles.apm import PlainAPM, train_step
from tools import methods_table
from ttt_bench import GoldenSpec, UserError, registered
from ttt_bench.registry import registry
from ttt_bench.testing import goldens

ROOT = Path(__file__).parents[1]
PARTS = ("weight", "bias")
CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", list(registry().goldens))
def test_golden(kind: str):
    spec = registry().goldens[kind].spec
    assert goldens.recognise(goldens.read_arrays(spec.path)) is spec
    result = goldens.compare(spec)
    assert result.passed, (result.worst, result.max_rel_diff)
    assert spec.tolerance <= 1e-4
    assert set(spec.tolerances) <= set(result.max_rel_diff)
    # A unit of a ReLU network that flips by rounding is seen in all later batches.
    largest = max(spec.tolerances.values(), default=0)
    assert largest <= (3e-3 if kind == "classic" else 1e-3)
    # The page on methods shows these numbers; a CPU of another kind rounds in another way.
    shown = json.loads(methods_table.GOLDENS.read_text("utf-8"))
    for method, difference in methods_table.by_method(result).items():
        assert difference <= shown[method][kind] + max(spec.tolerance, largest), method


def test_every_method_with_a_release_in_the_goldens_is_registered():
    covered = {method for item in registry().goldens.values() for method in item.spec.methods}
    assert {"apm", "tpt", "ttt-mae", "tent"} <= covered <= set(registry().adapters)


@pytest.mark.parametrize("plugin", ["apm", "tpt", "ttt_mae", "tta", "clip_tta"])
def test_a_wheel_carries_the_goldens_of_its_plugin(plugin: str, tmp_path: Path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "-w", str(tmp_path)]
    subprocess.run([*command, *options, str(ROOT / "plugins" / plugin)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = ZipFile(wheel).namelist()
    specs = [item.spec for item in registry().goldens.values() if item.plugin.name == plugin]
    assert specs
    for spec in specs:
        assert f"ttt_bench_{plugin}/goldens/{spec.file}" in names
        assert f"{spec.code.partition(':')[0].replace('.', '/')}.py" in names


def test_the_command_prints_one_line_of_json():
    path = registry().goldens["tpt"].spec.path
    command = [sys.executable, str(ROOT / "tests" / "golden_check.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    printed = json.loads(line)
    assert printed["kind"] == "tpt"
    assert set(printed["max_abs_diff"]) == set(printed["max_rel_diff"])
    assert max(printed["max_rel_diff"].values()) < 1e-4


def test_apm_ttt_other_seed(tmp_path: Path):
    """A file of the same kind with another seed, its outputs from the plain form."""
    order = goldens.read_arrays(registry().goldens["apm_ttt"].spec.path)["small/param_order"]
    rng = np.random.default_rng(123)
    parameters = draw_parameters(rng, order, 0.01, CPU)
    image = torch.from_numpy(rng.standard_normal((1, 3, 56, 56), np.float32))
    target = torch.from_numpy(rng.standard_normal((1, 768), np.float32))
    target *= 10 / target.norm()
    plain = PlainAPM(4, 14, (4096, 2048, 1024), 768).load(parameters)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-4)
    losses, pooled = [], []
    for _ in range(20):
        with torch.no_grad():
            pooled.append(plain(image)[0].numpy())
        losses.append(train_step(plain, optimizer, image, target))
    with torch.no_grad():
        pooled.append(plain(image)[0].numpy())
        field = plain.field(image).view(4, 4, -1).numpy()
    path = tmp_path / "other.npz"
    np.savez(
        path,
        **{
            "small/seed": np.array(123),
            "small/param_order": order,
            "small/target": target.numpy(),
            "small/losses": np.array(losses),
            "small/pooled": np.array(pooled),
            "small/grid_sample": field,
        },
    )
    assert max(golden_check.compare(path)["max_rel_diff"].values()) < 1e-4


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_apm_ssl_other_seed(tmp_path: Path, seed: int):
    """A file of the same kind, smaller, with another seed, its outputs from the plain form."""
    shapes = {"fc1": (96, 128), "fc2": (80, 96), "fc3": (64, 80), "feat_proj_head": (48, 64)}
    shapes |= {"rgb_head_1": (32, 176), "rgb_head_2": (32, 32), "rgb_head_3": (3, 32)}
    order = [f"{n}.{p} {s if p == 'weight' else s[:1]}" for n, s in shapes.items() for p in PARTS]
    order += ["conv1.weight (1, 3, 14, 14)", "conv1.bias (1,)"]
    rng = np.random.default_rng(seed)
    state = draw_parameters(rng, order, 0.02, CPU)
    one, other = (torch.from_numpy(rng.random((1, 3, 112, 112), np.float32)) for _ in range(2))
    targets = torch.from_numpy(rng.standard_normal((1, 64, 48), np.float32))
    rows = np.array([0, 7, 9, 40, 63])
    features, rgb = (answer[0, rows] for answer in apm_ssl.whole_grid(state, one, 8))
    between = [answer[:, rows] for answer in apm_ssl.interpolated(state, one, other, 3, 8)]
    file = {"features": features, "rgb": rgb}
    file |= {"interpolated_features": between[0], "interpolated_rgb": between[1]}
    file["losses"] = apm_ssl.train(state, one, targets, 8, 4)
    arrays = {name: value.numpy() for name, value in file.items()}
    np.savez(tmp_path / "other.npz", seed=seed, param_order=order, grid_rows=rows, **arrays)
    result = golden_check.compare(tmp_path / "other.npz")
    assert result["kind"] == "apm_ssl"
    assert set(result["max_rel_diff"]) == set(file)
    assert max(result["max_rel_diff"].values()) < 1e-4


@pytest.mark.parametrize("seed", [1, 2])
def test_ttt_mae_other_seed(tmp_path: Path, seed: int):
    """Other weights, image and masks, the outputs from the model written out plainly."""
    state = mae.random_state(seed)
    generator = torch.Generator().manual_seed(100 + seed)
    image = torch.randn(1, 3, 32, 32, generator=generator)
    masks = torch.rand(8, 4, 64, generator=generator)
    file = {f"model/{name}": value.numpy() for name, value in state.items()}
    file |= {"image": image.numpy(), "mask_noise": masks.numpy()}
    for case, lr, adamw in (("sgd", 5e-3, False), ("adam_w", 1e-3, True)):
        losses, logits = mae.tune(state, image, masks, lr, adamw)
        file |= {f"{case}/lr": np.array(lr), f"{case}/losses": torch.stack(losses).numpy()}
        file[f"{case}/logits"] = torch.stack(logits).numpy()
    np.savez(tmp_path / "other.npz", **file)
    result = golden_check.compare(tmp_path / "other.npz")
    assert set(result["max_rel_diff"]) == {
        f"{case}/{name}" for case in ("sgd", "adam_w") for name in ("losses", "logits")
    }
    assert max(result["max_rel_diff"].values()) < 1e-4


def test_a_wrong_number_is_seen(tmp_path: Path):
    spec = registry().goldens["apm_ttt"].spec
    file = {n: v for n, v in goldens.read_arrays(spec.path).items() if n.startswith("small/")}
    file["small/pooled"] = file["small/pooled"] * 1.001
    np.savez(tmp_path / "off.npz", **file)
    assert golden_check.compare(tmp_path / "off.npz")["max_rel_diff"]["small/pooled"] > 5e-4
    result = goldens.compare(spec, file)
    assert (result.passed, result.worst) == (False, "small/pooled")


def test_another_file_is_refused(tmp_path: Path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name, message in (
        ("x.npz", "not a golden file"),
        ("one.npy", "cannot be read"),
        ("text.npz", "cannot be read"),
        ("empty.npz", "cannot be read"),
        ("missing.npz", "cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            golden_check.compare(tmp_path / name)


def sums(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, tuple]:
    """Stands for a plugin's golden."""
    total = arrays["numbers"].sum(axis=0)
    return {"total": (torch.from_numpy(total).to(device), arrays["total"])}


def nothing(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, tuple]:
    """Stands for a golden that forgets to compare."""
    return {}


def golden(code: str, **fields) -> GoldenSpec:
    """A golden of this file's own."""
    arrays = frozenset({"numbers", "total"})
    return GoldenSpec(
        name="sums", summary="sums", code=f"{__name__}:{code}", file="none.npz", arrays=arrays,
        **fields,
    )  # fmt: skip


def test_a_plugin_brings_a_golden_with_tolerances_of_its_own(tmp_path: Path):
    numbers = np.arange(6.0).reshape(2, 3)
    file = {"numbers": numbers, "total": numbers.sum(0) + np.array([0, 0, 0.07])}
    np.savez(tmp_path / "sums.npz", **file)
    with registered(goldens=[golden("sums")]):
        printed = golden_check.compare(tmp_path / "sums.npz")
    assert printed["kind"] == "sums"
    assert printed["max_abs_diff"] == {"total": pytest.approx(0.07)}
    assert printed["max_rel_diff"] == {"total": pytest.approx(0.07 / 7.07)}
    assert not goldens.compare(golden("sums"), file).passed
    assert goldens.compare(golden("sums", tolerance=0.01), file).passed
    assert goldens.compare(golden("sums", tolerances={"total": 0.01}), file).passed


def test_nan_fails_and_shapes_and_silence_are_refused():
    numbers = np.ones((2, 3))
    nan = goldens.compare(golden("sums"), {"numbers": numbers * np.nan, "total": np.ones(3)})
    assert (nan.passed, nan.worst) == (False, "total")
    with pytest.raises(ValueError, match=r"total has shape \[3\], the file expects \[1\]"):
        goldens.compare(golden("sums"), {"numbers": numbers, "total": np.ones(1)})
    with pytest.raises(ValueError, match="returns no outputs"):
        goldens.compare(golden("nothing"), {"numbers": numbers, "total": np.ones(3)})
