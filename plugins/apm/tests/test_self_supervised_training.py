"""The self-supervised training: shards, resuming, validation."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ttt_bench_apm.self_supervised import shards as shards_module
from ttt_bench_apm.self_supervised import training
from ttt_bench_apm.self_supervised.checkpoints import load_field
from ttt_bench_apm.self_supervised.images import PhotographFolder, square
from ttt_bench_apm.self_supervised.shards import extract_features
from ttt_bench_apm.self_supervised.teacher import Teacher
from ttt_bench_apm.self_supervised.training import Recipe, rate, split

from ttt_bench import UserError, load_backbone

SIZES = ("--grid", 8, "--patch", 4, "--widths", "24,16", "--code", 16)
SMALL = ("--teacher", "tiny-clip", *SIZES, "--epochs", 3, "--batch-size", 4, "--device", "cpu")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "photographs" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "photographs" / "notes.txt").write_text("no photograph")
    return tmp_path / "photographs"


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher("tiny-clip", load_backbone("tiny-clip", "cpu"))


def test_shards_hold_the_teachers_features_and_only_missing_ones_are_computed(
    photographs: Path, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 100_000)
    folder, reported = PhotographFolder(photographs), []
    shards = extract_features(folder, teacher, 16, tmp_path / "cache", reported.append)
    assert (len(shards), shards.size, len(reported)) == (12, 5, 3)
    image, features = shards[7]
    assert torch.equal(image, square(folder.open(7), 16))
    expected = teacher(square(folder.open(7), 32)[None])[0]
    torch.testing.assert_close(features.float(), expected, atol=0.02, rtol=1e-3)
    with torch.no_grad():
        own = teacher.backbone.encode_patches(
            teacher.backbone.preprocess(folder.open(7).crop((5, 0, 45, 40)))[None]
        )
    assert own.shape == (1, 8, 8, 128)
    # The same square through the backbone's own transform, but for the filter's rounding.
    torch.testing.assert_close(expected, own[0], atol=0.5, rtol=0.1)
    # Only a missing shard is computed again.
    shards.path(1).unlink()
    reported.clear()
    extract_features(folder, teacher, 16, tmp_path / "cache", reported.append)
    assert len(reported) == 1
    # Another list of images is another folder.
    (photographs / "0" / "0.png").unlink()
    extract_features(
        PhotographFolder(photographs), teacher, 16, tmp_path / "cache", reported.append
    )
    assert len(list((tmp_path / "cache").iterdir())) == 2


def log(folder: str) -> list[dict]:
    lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in line if name != "seconds"} for line in lines]


def run(ttt, photographs: Path, output: str, *more: object, code: int = 0) -> str:
    exit_code, _, err = ttt("apm", "train", "--images", photographs, "-o", output, *SMALL, *more)
    assert exit_code == code, err
    return err


def test_train_writes_a_model_that_the_commands_use(ttt, photographs: Path):
    err = run(ttt, photographs, "m", "--lr", 1e-2)
    assert "the mean field's" in err
    lines = log("m")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["feature"] < lines[0]["feature"]
    trained = load_field(Path("m/model.pth"))
    assert trained.about["teacher"] == "tiny-clip"
    assert trained.mean_field is not None
    assert trained.mean_field.shape == (8, 8, 128)
    code, out, err = ttt("apm", "features", photographs / "0" / "2.png", "-c", "m/model.pth")
    assert code == 0, err
    assert Path(out.splitlines()[-1]).exists()


@pytest.mark.parametrize("locations", [0, 6])
def test_a_stopped_training_continues_to_the_same_network(
    ttt, photographs: Path, monkeypatch: pytest.MonkeyPatch, locations: int
):
    """Killed within an epoch, after a state was saved, and after an epoch."""
    options = ("--locations", locations, "--schedule", "cosine", "--held-out", 2)
    recipe = training.Recipe

    def frequent(**values):
        return recipe(**{**values, "save_every": 1})

    monkeypatch.setattr(training, "Recipe", frequent)
    run(ttt, photographs, "whole", *options)
    steps, real = [], training.losses

    def killed(*arguments):
        steps.append(1)
        if len(steps) in (2, 5):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(training, "losses", killed)
    for _ in range(2):
        run(ttt, photographs, "parts", *options, code=130)
    run(ttt, photographs, "parts", *options)
    assert log("parts") == log("whole")
    whole, parts = (load_field(Path(f) / "model.pth").network for f in ("whole", "parts"))
    pairs = zip(whole.state_dict().values(), parts.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_mean_field_is_the_mean_of_the_training_photographs_features(
    photographs: Path, teacher: Teacher, tmp_path: Path
):
    from ttt_bench_apm.self_supervised.network import FieldSizes, PerceptionField
    from ttt_bench_apm.self_supervised.validation import Validation

    shards = extract_features(
        PhotographFolder(photographs), teacher, 16, tmp_path / "cache", lambda line: None
    )
    fitting, held_out = split(12, 512, seed=0)
    assert (len(fitting), len(held_out)) == (10, 2)
    assert sorted(fitting + held_out) == list(range(12))
    sizes = FieldSizes(grid=8, patch=2, code=16, widths=(8,), features=128, colour=4)
    validation = Validation(shards, fitting, held_out, sizes, torch.device("cpu"), 0)
    features = torch.stack([shards[index][1].float() for index in range(12)])
    mean = features[fitting].mean(0)
    torch.testing.assert_close(validation.mean_field, mean)
    errors = validation(PerceptionField(sizes))
    assert errors["mean_field"] == pytest.approx((features[held_out] - mean).square().mean().item())
    assert errors["gain"] == pytest.approx(errors["mean_field"] / errors["val_feature"])


def test_the_rate_is_constant_or_falls_by_a_cosine():
    cosine = Recipe(epochs=2, lr=1.0, schedule="cosine")
    assert [round(rate(cosine, p), 3) for p in (0.0, 0.5, 1.0)] == [1.0, 0.5, 0.0]
    assert rate(Recipe(), 0.9) == 1e-4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--widths", "24,none"), ["'24,none'", "such as 512,256"]),
        (("--code", 18), ["--code 18"]),
        (("--teacher", "mae:nowhere.pth"), ["nowhere.pth"]),
        (("--teacher", "tiny-mae", "--teacher-side", 30), ["30 pixels"]),
        (("--teacher", "mae:nowhere.pth", "--weights", "w.pth"), ["leave --weights out"]),
    ],
)
def test_bad_options_are_one_line(ttt, photographs: Path, options: Sequence, words: list[str]):
    err = run(ttt, photographs, "m", *options, code=2)
    assert err.count("\n") == 1, err
    assert all(word in err for word in words), err


def test_other_options_in_the_same_folder_are_refused(ttt, photographs: Path):
    run(ttt, photographs, "m")
    assert "seed=0, not 1" in run(ttt, photographs, "m", "--seed", 1, code=2)


def test_folders_and_files_that_are_no_photographs(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        PhotographFolder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no"):
        PhotographFolder(tmp_path)
    (tmp_path / "broken.png").write_text("text")
    with pytest.raises(UserError, match="not a readable image"):
        PhotographFolder(tmp_path).open(0)
