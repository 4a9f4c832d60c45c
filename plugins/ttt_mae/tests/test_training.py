"""Every row can be trained from a folder, stopped and continued, from training images alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ttt_bench_ttt_mae.checkpoints import read

from ttt_bench import TrainingFolder
from ttt_bench.datasets import image_folder

SMALL = ("--epochs", 2, "--batch-size", 4, "--device", "cpu", "--warm-up", 0)
TINY = ("--size", "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes in the layout of ImageNet: train/ and val/."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for name, shade in (("cat", 60), ("dog", 160)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(shade, shade + 80, (40, 36, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def train(ttt, photos: Path):
    """`ttt-bench ttt-mae ...` on the photographs; returns what it wrote."""

    def command(*arguments: object, code: int = 0) -> str:
        left, _, err = ttt("ttt-mae", *arguments, "--dataset", f"imagefolder:{photos}")
        assert left == code, err
        return err

    return command


def states(path: str) -> dict[str, torch.Tensor]:
    return read(Path(path) / "model.pth").state


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_every_row_from_a_folder_of_images(train, ttt, photos: Path):
    train("pretrain", *TINY, *SMALL, "-o", "mae")
    (first, second) = [json.loads(line) for line in Path("mae/log.jsonl").read_text().splitlines()]
    assert first["epoch"] == 1
    assert second["loss"] > 0
    backbone = "mae:mae/model.pth"
    start = states("mae")
    for recipe in ("vit-probe", "fine-tune", "joint-train"):
        train("train", "--recipe", recipe, "-b", backbone, *SMALL, "-o", recipe)
        log = [json.loads(line) for line in Path(recipe, "log.jsonl").read_text().splitlines()]
        assert 0 <= log[-1]["accuracy"] <= 1
        assert ("reconstruction" in log[-1]) == (recipe == "joint-train")
    assert all(name.startswith("classifier") for name in states("vit-probe"))
    for recipe, decoder_learns in (("fine-tune", False), ("joint-train", True)):
        after = states(recipe)
        assert not torch.equal(after["blocks.0.mlp.fc1.weight"], start["blocks.0.mlp.fc1.weight"])
        same = torch.equal(after["decoder_pred.weight"], start["decoder_pred.weight"])
        assert same != decoder_learns
        assert torch.equal(after["pos_embed"], start["pos_embed"])

    methods = [part for name in ("vit-probe", "fine-tune", "joint-train", "ttt-mae")
               for part in ("--method", name)]  # fmt: skip
    made = {"ttt-mae": "vit-probe"}
    files = {name: f"{made.get(name, name)}/model.pth" for name in methods[1::2]}
    settings = [part for name, file in files.items()
                for part in ("--set", f"{name}.checkpoint={file}")]  # fmt: skip
    code, out, err = ttt(
        "run", *methods, "--dataset", f"imagefolder:{photos}", "--backbone", backbone, *settings,
        "--set", "copies=2", "--set", "steps=2", "--format", "json",
    )  # fmt: skip
    assert code == 0, err
    assert [run["n"] for run in json.loads(out)["runs"]] == [4] * 4


def test_a_stopped_training_ends_like_an_undisturbed_one(train, monkeypatch):
    arguments = ("pretrain", *TINY, *SMALL, "--epochs", 3)
    train(*arguments, "-o", "whole")
    saved = TrainingFolder.save

    def stop(self, state):
        saved(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingFolder, "save", stop)
    train(*arguments, "-o", "parts", code=130)
    monkeypatch.setattr(TrainingFolder, "save", saved)
    assert not Path("parts/model.pth").exists()
    assert "continuing after 1 of 3 epochs" in train(*arguments, "-o", "parts")
    assert equal(states("parts"), states("whole"))
    # A finished one has nothing left to do.
    assert "epoch 3/3" not in train(*arguments, "-o", "parts")
    assert equal(states("parts"), states("whole"))
    # Nor may another one take its folder.
    assert "seed=0, not 1" in train(*arguments, "-o", "parts", "--seed", 1, code=2)
    assert equal(states("parts"), states("whole"))


def test_only_training_images_are_opened(train, monkeypatch):
    opened = []
    plain = image_folder.open_image
    monkeypatch.setattr(
        image_folder, "open_image", lambda path: (opened.append(path), plain(path))[1]
    )
    train("pretrain", *TINY, *SMALL, "-o", "mae")
    train("train", "--recipe", "vit-probe", "-b", "mae:mae/model.pth", "--head", "linear", *SMALL,
          "-o", "probe")  # fmt: skip
    assert {path.parts[-3] for path in opened} == {"train"}
    assert "head.1.weight" in states("probe")


def test_the_embedded_set_has_training_images(ttt):
    small = ("--epochs", 1, "--batch-size", 64, "--device", "cpu")
    code, out, err = ttt("ttt-mae", "pretrain", "-d", "cifar10-c-mini", *small, "-o", "mae")
    assert code == 0, err
    assert "mae:mae/model.pth" in out


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("pretrain", *TINY, "-o", "x", "--epochs", 0), ["--epochs"]),
        (("pretrain", "--size", "giant", "-o", "x"), ["--size", "giant"]),
        (("pretrain", *TINY, "-o", "photos/train/cat/0.png"), ["photos/train/cat/0.png"]),
        (("train", "--recipe", "probe", "-o", "x"), ["--recipe", "vit-probe"]),
        (("train", "--recipe", "vit-probe", "-b", "tiny-clip", "-o", "x"), ["tiny-clip"]),
        (("train", "--recipe", "vit-probe", "-b", "mae:no.pth", "-o", "x"), ["no.pth"]),
        (
            ("pretrain", *TINY, *SMALL, "-o", "x", "--base-lr", 1e30),
            ["'loss' is", "lower"],
        ),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line(train, arguments, wanted):
    err = train(*arguments, code=2)
    (line,) = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    assert "Traceback" not in err
    assert all(word in line for word in wanted), line


def test_a_folder_without_training_images_is_refused(ttt, photos: Path):
    command = ("ttt-mae", "pretrain", "--size", "tiny", "-o", "x", *SMALL)
    code, _, err = ttt(*command, "--dataset", f"imagefolder:{photos / 'val'}")
    assert code == 2
    assert "has no training images" in err
    assert not Path("x").exists()
