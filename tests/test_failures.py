"""One bad thing stops nothing else: unreadable images, missing data, methods that raise."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ttt_bench import Adapter, AdapterConfig, AdapterSpec, Prediction, registered
from ttt_bench.baselines.clip import ZeroShot
from ttt_bench.runs.folder import RunFolder

PHOTOS = ("run", "-d", "imagefolder:photos", "-b", "tiny-clip", "-o", "r")
BOTH = ("-m", "clip-zero-shot", "-m", "source")
MINI = ("run", "-d", "cifar10-c-mini", "--device", "cpu", "--limit", "8", "-o", "r")


@pytest.fixture
def damaged(tmp_path: Path) -> dict[Path, bytes]:
    """Write 80 photographs, two of them damaged; return what the damaged ones should hold."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(40):
            draw = np.random.default_rng(100 * label + number)
            pixels = draw.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number:02d}.png")
    files = [tmp_path / "photos" / "cat" / "05.png", tmp_path / "photos" / "dog" / "33.png"]
    whole = {file: file.read_bytes() for file in files}
    files[0].write_bytes(whole[files[0]][:60])
    files[1].write_bytes(b"no image")
    return whole


def folder(method: str) -> RunFolder:
    return RunFolder(Path("r/imagefolder-photos") / method)


def test_every_other_chunk_is_finished_and_every_unreadable_image_is_named(ttt, damaged):
    code, out, err = ttt(*PHOTOS, *BOTH)
    assert (code, out) == (2, "")
    last = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    for method in ("clip-zero-shot", "source"):
        lines = [line for line in last if f"{method} on" in line]
        assert len(lines) == 3
        assert all(name in line for name, line in zip(("05.png", "33.png"), lines, strict=False))
        assert "--skip-unreadable" in lines[-1]
        assert [path.name for path in (folder(method).path / "chunks").iterdir()] == [
            "000001.parquet"
        ]
    assert "Traceback" not in err


def test_unreadable_images_are_found_in_loaders_and_workers_too(ttt, damaged):
    for options in (("--loaders", "1"), ("--workers", "2")):
        code, _, err = ttt(*PHOTOS, "-m", "source", *options)
        assert code == 2
        assert "05.png" in err
        assert "33.png" in err.splitlines()[-2]


def test_a_run_without_unreadable_images_uses_finished_samples_again(ttt, damaged):
    ttt(*PHOTOS, "-m", "source")
    before = folder("source").read_chunk(1, folder("source").card().key)
    code, out, err = ttt(*PHOTOS, "-m", "source", "--skip-unreadable", "--format", "json")
    assert code == 0, err
    assert json.loads(out)["runs"][0]["n"] == 78
    card = folder("source").card()
    assert card.protocol["skipped"] == ["cat/05.png", "dog/33.png"]
    after = folder("source").read_chunk(1, card.key)
    # The time was measured once: the samples were not computed again.
    assert after.seconds == pytest.approx(before.seconds)
    assert (after.logits == before.logits).all()
    assert ttt("compare", "r")[0] == 0


@pytest.mark.parametrize("removed", [False, True], ids=["repaired", "one of them removed"])
def test_after_a_repair_the_same_command_finishes_the_rest(ttt, damaged, removed: bool):
    ttt(*PHOTOS, "-m", "source")
    before = folder("source").read_chunk(1, folder("source").card().key)
    for file, content in damaged.items():
        file.write_bytes(content)
    if removed:
        next(iter(damaged)).unlink()
    code, out, err = ttt(*PHOTOS, "-m", "source", "--format", "json")
    assert code == 0, err
    assert json.loads(out)["runs"][0]["n"] == 80 - removed
    records = folder("source").read_records()
    rows = [records.sample_id.index(name) for name in before.sample_id]
    assert (records.logits[rows] == before.logits).all()
    assert not [path for path in folder("source").path.parent.iterdir() if "." in path.name]


def test_an_image_that_changed_meanwhile_is_computed_again(ttt, damaged, tmp_path: Path):
    ttt(*PHOTOS, "-m", "source")
    for file, content in damaged.items():
        file.write_bytes(content)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "photos" / "cat" / "39.png")
    assert ttt(*PHOTOS, "-m", "source", "-o", "r")[0] == 0
    assert ttt(*PHOTOS[:-1], "alone", "-m", "source")[0] == 0
    alone = RunFolder(Path("alone/imagefolder-photos/source")).read_records()
    assert (folder("source").read_records().logits == alone.logits).all()


def test_a_missing_dataset_stops_its_own_runs_alone(ttt):
    code, out, err = ttt(*MINI, "-d", "imagefolder:nowhere", "-m", "clip-zero-shot")
    assert code == 2
    assert "clip-zero-shot" in out
    assert "nowhere" in err.splitlines()[-1]


class Raises(ZeroShot):
    def adapt(self, samples, rngs):
        raise RuntimeError("no\nway \x1b[2J")


class RaisesInSetup(ZeroShot):
    def setup(self, task):
        raise KeyError("weights")


class Leaves(ZeroShot):
    def adapt(self, samples, rngs):
        sys.exit(0)


class LeavesAtOnce(ZeroShot):
    def adapt(self, samples, rngs):
        os._exit(0)


class Prints(ZeroShot):
    def adapt(self, samples, rngs):
        print("a method's own words")
        return super().adapt(samples, rngs)


class SpoilsTheProcess(ZeroShot):
    def adapt(self, samples, rngs):
        predictions = super().adapt(samples, rngs)
        torch.set_grad_enabled(False)
        torch.manual_seed(7)
        return predictions


def returning(make) -> type[Adapter]:
    class Returns(Adapter[AdapterConfig]):
        def adapt(self, samples, rngs):
            return make(samples, torch.zeros(len(self.task.classes)))

    return Returns


FAULTS = {
    "numpy logits": (lambda s, z: [Prediction(z.numpy()) for _ in s], "logits is ndarray"),
    "list logits": (lambda s, z: [Prediction(z.tolist()) for _ in s], "logits is list"),
    "no logits": (lambda s, z: [Prediction(None) for _ in s], "logits is NoneType"),
    "a string": (lambda s, z: "predictions", "returned str"),
    "nothing": (lambda s, z: None, "returned NoneType"),
    "meta tensor": (lambda s, z: [Prediction(z.to("meta")) for _ in s], "without plain values"),
    "whole numbers": (lambda s, z: [Prediction(z.long()) for _ in s], "not floating point"),
    "too large": (lambda s, z: [Prediction(z.double() + 1e300) for _ in s], "not finite"),
    "no steps": (lambda s, z: [Prediction(z, z[None][:0]) for _ in s], "step_logits has shape"),
    "ragged steps": (
        lambda s, z: [Prediction(z, z.expand(1 + i, -1)) for i, _ in enumerate(s)],
        "every sample needs the same",
    ),
    "other last step": (lambda s, z: [Prediction(z, z[None] + 1) for _ in s], "last step"),
}


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Register every faulty method of this file; return their names."""
    classes = {
        "raises": Raises, "raises-in-setup": RaisesInSetup, "leaves": Leaves,
        "leaves-at-once": LeavesAtOnce, "prints": Prints, "spoils": SpoilsTheProcess,
        **{name.replace(" ", "-"): returning(make) for name, (make, _) in FAULTS.items()},
    }  # fmt: skip
    module = sys.modules[__name__]
    specs = []
    for number, (name, kind) in enumerate(classes.items()):
        monkeypatch.setattr(module, f"Faulty{number}", kind, raising=False)
        code = f"{__name__}:Faulty{number}"
        specs.append(AdapterSpec(name=name, summary="a faulty method", code=code))
    with registered(adapters=specs):
        yield list(classes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "RuntimeError: no at "),
        ("raises-in-setup", "failed in its setup: KeyError: 'weights' at "),
        ("leaves", "SystemExit"),
        ("leaves-at-once", "ended its process"),
    ],
)
def test_a_method_that_raises_stops_no_other(ttt, methods, name: str, message: str):
    code, out, err = ttt(*MINI, "-m", name, "-m", "source")
    assert code == 2
    assert "source" in out
    (last,) = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    assert message in last
    if " at " in message:
        assert "test_failures.py:" in last
    assert "Traceback" not in err
    assert "\x1b" not in err


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_method_returns_is_judged_before_it_is_used(ttt, methods, fault: str):
    code, out, err = ttt(*MINI, "-m", fault.replace(" ", "-"), "-m", "source")
    assert code == 2
    assert "source" in out
    last = err.splitlines()[-1]
    # While tests run, jaxtyping may see it first.
    assert FAULTS[fault][1] in last or "TypeCheckError" in last
    assert fault.replace(" ", "-") in last


def test_standard_output_belongs_to_the_command(ttt, methods):
    code, out, err = ttt(*MINI, "-m", "prints", "--format", "json")
    assert code == 0, err
    assert json.loads(out)["runs"][0]["method"] == "prints"
    assert "a method's own words" in err


def test_a_method_that_changes_the_process_is_named_and_changes_no_other(ttt, methods):
    assert torch.is_grad_enabled()
    code, out, err = ttt(*MINI, "-m", "spoils", "-m", "source", "--format", "json")
    assert code == 0, err
    assert torch.is_grad_enabled()
    assert "spoils changed" in err
    assert "grad mode" in err
    assert len(json.loads(out)["runs"]) == 2
