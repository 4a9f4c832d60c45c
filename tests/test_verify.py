"""`ttt-bench verify`: samples of a run, run again, tell a true run from one that was made up."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import test_online
from tests.run_folders import METHOD, PROTOCOL, write_run
from tests.test_bad_input import one_line
from ttt_bench.api.records import Records
from ttt_bench.registry import registered
from ttt_bench.runner import opening
from ttt_bench.runs.card import Card
from ttt_bench.runs.folder import RunFolder

LIMIT = 40
RUN = ("run", "--device", "cpu", "-o", "r")
MINI = Path("r/cifar10-c-mini")


@pytest.fixture
def apm(ttt) -> RunFolder:
    code, _, err = ttt(
        *RUN, "-d", "cifar10-c-mini", "--limit", LIMIT, "-m", "apm", "--set", "steps=3"
    )
    assert code == 0, err
    return RunFolder(MINI / "apm")


@pytest.fixture
def verified(ttt) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Type `verify --format json`; returns exit code, what it prints, standard error."""

    def verify(path: object, *options: object) -> tuple[int, dict[str, Any], str]:
        code, out, err = ttt("verify", path, "--device", "cpu", "--format", "json", *options)
        assert code in (0, 1), err
        return code, json.loads(out), err

    return verify


def forge(folder: RunFolder, **changes: Callable[[Records], Any]) -> None:
    """Change values of the records and seal every chunk anew."""
    key = folder.card().key
    for number in range(folder.card().method["chunks"]):
        before = folder.read_chunk(number, key)
        values = {name: change(before) for name, change in changes.items()}
        folder.write_chunk(number, replace(before, **values), key)


def make_again(folder: RunFolder, card: Card, **about: Any) -> None:
    """Write a finished run anew under another card or with other facts in its manifest."""
    manifest, before = folder.manifest(), folder.card()
    chunks = [folder.read_chunk(i, before.key) for i in range(before.method["chunks"])]
    cost = folder.read_json("cost.json", before.key)
    folder.begin(card, {**{n: v for n, v in manifest.items() if n not in ABOUT}, **about}, True)
    for number, records in enumerate(chunks):
        folder.write_chunk(number, records, card.key)
    folder.write_json("cost.json", cost, card.key)


ABOUT = ("card", "digests", "fingerprint", "key")


@pytest.mark.parametrize("samples", [5, 16, 1000])
def test_a_true_run_comes_out_bit_for_bit(verified, apm, samples: int):
    code, result, err = verified(apm.path, "--samples", samples)
    checked = min(samples, LIMIT)
    assert (code, err) == (0, "")
    assert {n: v for n, v in result.items() if n not in ("samples", "runs")} == {
        "checked": checked, "equal": checked, "close": 0, "different": 0,
    }  # fmt: skip
    names = [sample["sample_id"] for sample in result["samples"]]
    assert len(set(names)) == checked
    assert set(names) <= set(apm.read_records().sample_id)
    assert all(sample["recorded"] == sample["here"] for sample in result["samples"])
    (run,) = result["runs"]
    assert (run["run"], run["key"], run["differences"]) == (str(apm.path), apm.card().key, [])


def test_every_draw_is_another(verified, apm):
    draws = [verified(apm.path, "--samples", 8)[1]["samples"] for _ in range(2)]
    first, second = ([sample["sample_id"] for sample in draw] for draw in draws)
    assert first != second


def test_the_text_counts_and_names_what_was_checked(ttt, apm):
    code, out, _ = ttt("verify", apm.path, "--device", "cpu", "--samples", 3)
    assert code == 0
    assert "3 samples run again: 3 equal, 0 close, 0 different" in out
    assert sum(name in out for name in apm.read_records().sample_id) == 3


@pytest.mark.parametrize("logits", [[], ["--logits"]])
def test_an_exported_run_is_verified_as_its_folder(ttt, verified, apm, logits: list[str]):
    assert ttt(*RUN, "-d", "cifar10-c-mini", "--limit", LIMIT, "-m", "clip-zero-shot")[0] == 0
    assert ttt("export", "r", "-o", "results.zip", *logits)[0] == 0
    shutil.rmtree("r")
    code, result, _ = verified("results.zip", "--samples", 4)
    assert (code, result["checked"], result["equal"]) == (0, 8, 8)
    assert len(result["runs"]) == 2
    assert all((one["logit_difference"] == 0) == bool(logits) for one in result["samples"])
    one_run = result["runs"][0]["run"]
    code, result, _ = verified(one_run, "--samples", 4)
    assert (code, result["equal"]) == (0, 4)
    assert [run["run"] for run in result["runs"]] == [one_run]


FORGERIES: dict[str, dict[str, Callable[[Records], Any]]] = {
    "prediction": {"prediction": lambda r: r.label.copy()},
    "label": {"label": lambda r: r.prediction.copy()},
    "unadapted": {"unadapted_prediction": lambda r: (r.unadapted_prediction + 1) % 10},
    "one step": {
        "step_predictions": lambda r: np.where(
            np.arange(r.step_predictions.shape[1]) == 0,
            (r.step_predictions + 1) % 10,
            r.step_predictions,
        )
    },
    "steps are gone": {"step_predictions": lambda r: None},
    "confidence": {"confidence": lambda r: r.confidence * np.float32(0.9)},
    "logits": {"logits": lambda r: r.logits * np.float32(1.01)},
    "logits of another prediction": {
        "logits": lambda r: np.eye(10, dtype=np.float32)[r.label],
        "prediction": lambda r: r.label.copy(),
    },
    "not a number": {"logits": lambda r: r.logits * np.float32("nan")},
    "group": {"group": lambda r: ["fog" if one != "fog" else "snow" for one in r.group]},
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forgery_that_is_sealed_anew_is_found(ttt, verified, apm, what: str):
    forge(apm, **FORGERIES[what])
    assert ttt("compare", apm.path)[0] == 0
    code, result, _ = verified(apm.path, "--samples", LIMIT)
    assert code == 1
    before, changed = apm.read_records(), what.split()[0]
    if changed not in ("prediction", "label"):
        assert result["different"] == LIMIT
    # A true prediction that was right is the label.
    assert result["different"] >= LIMIT / 4
    assert all(one["reasons"] for one in result["samples"] if one["verdict"] == "different")
    code, out, _ = ttt("verify", apm.path, "--device", "cpu", "--samples", LIMIT)
    assert code == 1
    lines = [line for line in out.splitlines() if "in the records and" in line]
    assert len(lines) == result["different"]
    row = before.sample_id.index(lines[0].split()[0])
    assert f"predicted {before.prediction[row]} in the records" in lines[0]


def test_a_rounding_of_the_last_bits_is_close(verified, apm):
    forge(apm, logits=lambda r: r.logits * np.float32(1 + 1e-5))
    code, result, _ = verified(apm.path)
    assert (code, result["close"]) == (0, 16)


@pytest.mark.parametrize(("steps", "verdict"), [(1, "close"), (2, "different")])
def test_with_other_versions_one_step_in_ten_may_differ(ttt, verified, steps: int, verdict: str):
    run = (*RUN, "-d", "cifar10-c-mini", "--limit", 4, "-m", "apm", "--set", "steps=10")
    assert ttt(*run)[0] == 0
    folder = RunFolder(MINI / "apm")
    environment = folder.manifest()["environment"]
    make_again(folder, folder.card(), environment={**environment, "python": "3.9"})
    forge(
        folder,
        step_predictions=lambda r: np.where(
            np.arange(10) < steps, (r.step_predictions + 1) % 10, r.step_predictions
        ),
    )
    assert verified(folder.path)[1][verdict] == 4


def test_other_code_is_named_before_anything_runs(ttt, verified, apm, monkeypatch):
    digests = opening.code_files
    monkeypatch.setattr(
        opening, "code_files", lambda spec: {**digests(spec), "ttt_bench_apm/new.py": "0"}
    )
    code, result, err = verified(apm.path)
    assert (code, result["equal"]) == (0, 16)
    assert "the plugins' code differs here (changed: ttt_bench_apm/new.py)" in err
    assert result["runs"][0]["differences"] == [err.strip().partition(": ")[2]]


def test_another_version_of_the_harness_is_said_and_verified_all_the_same(verified, apm):
    make_again(apm, apm.card(), harness={"version": "0.0.1", "code": "0" * 16})
    code, result, err = verified(apm.path)
    assert (code, result["equal"]) == (0, 16)
    assert "ttt-bench's own code differs here (version 0.0.1 in the run" in err


def test_other_versions_and_weights_are_said(verified, apm):
    card = apm.card()
    environment = apm.manifest()["environment"]
    packages = {**environment["packages"], "torch": "1.0"}
    other = Card(card.protocol, {**card.method, "weights": "0" * 64})
    make_again(apm, other, environment={**environment, "packages": packages})
    code, _, err = verified(apm.path)
    assert code == 0
    assert "packages.torch is 1.0 in the run and" in err
    assert f"weights is {'0' * 60}... in the run and" in err


@pytest.mark.parametrize("values", [{"limit": 0}, {"limit": -5}, {"seed": -1}])
def test_a_card_that_no_run_has_is_refused(ttt, values: dict[str, int]):
    write_run(Path("sent"), protocol={**PROTOCOL, **values})
    one_line(ttt("verify", "sent"), "sent", next(iter(values)))


@contextmanager
def online_methods() -> Iterator[None]:
    with registered(adapters=test_online.SPECS):
        yield


def test_a_method_that_is_known_to_depend_on_other_samples_is_not_run_again(ttt, verified):
    known = {"check_order_independence": "weights are kept"}
    write_run(Path("r/apm"), method={**METHOD, "known_failures": known})
    code, out, err = verified("r/apm")
    assert (code, out["checked"]) == (0, 0)
    reason = "no sample is run again, since apm is known to fail check_order_independence"
    assert f"r/apm: {reason}: its predictions depend on other samples" in err


def test_whole_batches_are_run_again(ttt, verified):
    with online_methods():
        assert ttt(*RUN, "-d", "cifar10-c-mini", "--limit", 96, "-m", "batch-mean")[0] == 0
        code, result, err = verified(MINI / "batch-mean", "--samples", 5)
        assert (code, result["equal"], err) == (0, 5, "")
        forge(RunFolder(MINI / "batch-mean"), prediction=lambda r: (r.prediction + 1) % 10)
        assert verified(MINI / "batch-mean")[1]["different"] == 16


def test_one_stream_is_run_again_from_its_start(ttt, verified):
    with online_methods():
        assert ttt(*RUN, "-d", "cifar10-c-mini", "--limit", 96, "-m", "running-mean")[0] == 0
        code, result, err = verified(MINI / "running-mean", "--samples", 5)
        assert (code, result["equal"]) == (0, 5)
        (line,) = err.splitlines()
        assert "is run again from its start" in line
        forge(RunFolder(MINI / "running-mean"), prediction=lambda r: (r.prediction + 1) % 10)
        # A stream has 6 of the 96 samples.
        code, result, _ = verified(MINI / "running-mean")
        assert (code, result["checked"], result["different"]) == (1, 6, 6)
        streams = RunFolder(MINI / "running-mean").read_records()
        stream_of = dict(zip(streams.sample_id, streams.stream or (), strict=True))
        assert len({stream_of[sample["sample_id"]] for sample in result["samples"]}) == 1


def test_a_method_that_is_not_installed_is_named(ttt):
    with online_methods():
        assert ttt(*RUN, "-d", "cifar10-c-mini", "--limit", 32, "-m", "batch-mean")[0] == 0
    one_line(ttt("verify", MINI / "batch-mean"), "cannot be run again here", "batch-mean")


@pytest.fixture
def photos(ttt) -> RunFolder:
    """A run on a folder of photos."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"photos/{name}/{number}.png")
    run = (*RUN, "-d", f"imagefolder:{Path('photos').absolute()}", "-b", "tiny-clip")
    code, _, err = ttt(*run, "-m", "clip-zero-shot")
    assert code == 0, err
    (manifest,) = Path("r").rglob("manifest.json")
    return RunFolder(manifest.parent)


def test_missing_data_is_said_and_data_elsewhere_is_taken(ttt, verified, photos):
    Path("photos").rename("elsewhere")
    one_line(ttt("verify", photos.path), str(photos.path), "cannot be run again here", "photos")
    code, result, err = verified(photos.path, "--dataset", "imagefolder:elsewhere")
    assert (code, result["equal"], err) == (0, 8, "")


def test_an_image_with_other_pixels_is_named(verified, photos):
    Image.new("RGB", (40, 40), "red").save("photos/dog/2.png")
    code, result, err = verified(photos.path)
    assert (code, result["equal"], result["different"]) == (1, 7, 1)
    assert "2.png) has other pixels here" in err
    assert "revision is" in err


def test_samples_that_are_not_there_are_counted(ttt, photos):
    Path("photos/dog/2.png").unlink()
    one_line(ttt("verify", photos.path), "1 of its 8 samples are not in imagefolder")


def test_a_run_that_lacks_something_does_not_stop_the_others(ttt, photos):
    """One of the two runs below the folder has lost its data."""
    assert ttt(*RUN, "-d", "cifar10-c-mini", "--limit", 16, "-m", "clip-zero-shot")[0] == 0
    shutil.rmtree("photos")
    code, out, err = ttt("verify", "r", "--device", "cpu", "--samples", 4)
    assert code == 2
    assert "4 samples run again: 4 equal" in out
    assert "cannot be run again here" in err.splitlines()[-1]


def test_a_run_without_its_manifest_is_not_passed_over(ttt, apm):
    (apm.path / "manifest.json").unlink()
    one_line(ttt("verify", "r"), "manifest.json is missing")


def test_an_unfinished_or_damaged_run_is_refused(ttt, apm):
    content = apm.chunk_path(1).read_bytes()
    apm.chunk_path(1).unlink()
    one_line(ttt("verify", apm.path), "000001.parquet is missing")
    apm.chunk_path(1).write_bytes(content[:-30] + bytes(30))
    one_line(ttt("verify", apm.path), "000001.parquet is damaged")
