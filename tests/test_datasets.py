"""The datasets hold what their cards say."""

import hashlib
import json
import os
import shutil
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.records_equal import records_equal
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError
from ttt_bench.datasets.cifar10_c_mini import (
    FEW_SHOT_FILE,
    TEST_FILE,
    VALIDATION_FILE,
    Cifar10CMini,
)
from ttt_bench.datasets.corruptions import SHORT_NAMES
from ttt_bench.datasets.image_folder import ImageFolder
from ttt_bench.datasets.image_sheets import ImageSheets, predicted
from ttt_bench.datasets.source_images import SourceImages
from ttt_bench.runs.folder import RunFolder


def pixels(dataset: Dataset, group: str) -> np.ndarray:
    """The images of one group, in the order of the entries."""
    rows = [index for index, entry in enumerate(dataset.entries) if entry.group == group]
    return np.stack([np.asarray(dataset.open(index)) for index in rows])


def groups(dataset: Dataset) -> list[str | None]:
    """The groups in the order of the entries, each once."""
    return list(dict.fromkeys(entry.group for entry in dataset.entries))


def at(severity: int) -> list[str]:
    """The groups of all 15 corruptions at one severity."""
    return [f"{name}@{severity}" for name in SHORT_NAMES]


def test_the_embedded_files_fit_a_wheel():
    files = (TEST_FILE, VALIDATION_FILE, FEW_SHOT_FILE)
    assert sum(file.stat().st_size for file in files) < 10_500_000


@pytest.mark.parametrize(
    ("argument", "per_class"), [("", 20), ("@3", 20), ("@3,@5", 20), ("validation", 8)]
)
def test_every_group_of_the_embedded_set_has_as_many_images_of_each_class(
    argument: str, per_class: int
):
    dataset = Cifar10CMini(argument, None)
    counts = Counter((entry.group, entry.label) for entry in dataset.entries)
    assert len(counts) == 10 * len(groups(dataset))
    assert set(counts.values()) == {per_class}
    ids = {dataset.sample_id(index) for index in range(len(dataset.entries))}
    assert len(ids) == len(dataset.entries)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("", ["clean", *at(5)]),
        ("@5", ["clean", *at(5)]),
        ("@3", ["clean", *at(3)]),
        (
            "@5,@3",
            ["clean", *(f"{name}@{severity}" for name in SHORT_NAMES for severity in (3, 5))],
        ),
        ("fog@5", ["fog@5"]),
        ("fog", ["fog@3", "fog@5"]),
        ("snow@3, fog@5", ["fog@5", "snow@3"]),
        ("clean", ["clean"]),
        ("clean,fog@3", ["clean", "fog@3"]),
        ("validation", ["clean", *at(5)]),
        ("validation,fog", ["fog@5"]),
        ("validation,clean", ["clean"]),
    ],
)
def test_a_selection_has_its_groups(argument: str, expected: list[str]):
    assert groups(Cifar10CMini(argument, None)) == expected


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("@4", r"unknown severity '4'; known: 3, 5 \(cifar10-c-mini:@4\)"),
        ("fog@", "unknown severity ''; known: 3, 5"),
        ("validation,fog@3", "unknown severity '3'; known: 5"),
        ("cleen", "did you mean clean"),
        ("fog,validation", "validation comes first"),
        ("fog,,snow", "remove the comma"),
        ("validation,", "remove the comma"),
    ],
)
def test_a_selection_that_is_not_there_is_refused_with_what_is(argument: str, message: str):
    with pytest.raises(UserError, match=message) as refused:
        Cifar10CMini(argument, None)
    assert "\n" not in str(refused.value)


def test_an_image_is_the_same_sample_in_every_selection():
    whole, alone = Cifar10CMini("@3,@5", None), Cifar10CMini("fog@5", None)
    first = groups(whole).index("fog@5") * 200
    for row in (0, 7, 199):
        assert whole.sample_id(first + row) == alone.sample_id(row)
        assert whole.open(first + row) == alone.open(row)
        assert whole.entries[first + row] == alone.entries[row]


def test_equal_selections_have_one_identity():
    assert {Cifar10CMini(words, None).identity for words in ("", "@5")} == {"cifar10-c-mini"}
    assert Cifar10CMini("@3", None).identity == "cifar10-c-mini:@3"


def test_embedded_images_are_corrupted_photographs():
    dataset = Cifar10CMini("@3,@5", None)
    clean = pixels(dataset, "clean").astype(float)
    assert clean.shape == (200, 32, 32, 3)
    for name in SHORT_NAMES:
        weak, strong = (
            np.abs(pixels(dataset, f"{name}@{severity}") - clean).mean() for severity in (3, 5)
        )
        assert weak > 2, name
        # A stronger frost darkens the photograph more, a stronger elastic shift is a shorter one.
        assert weak < strong or name in ("frost", "elastic_transform"), (name, weak, strong)


def test_training_images_for_choices_are_neither_test_images_nor_the_few_shots():
    validation = Cifar10CMini("validation", None)
    assert "never test images" in validation.card()["corruption_source"]
    photographs = {image.tobytes() for image in pixels(validation, "clean")}
    assert len(photographs) == 80
    few_shot = {validation.open_training(i).tobytes() for i in range(len(validation.training))}
    test = Cifar10CMini("", None)
    assert not photographs & few_shot
    assert not photographs & {image.tobytes() for image in pixels(test, "clean")}
    assert [test.open_training(i).tobytes() for i in (0, 319)] == [
        validation.open_training(i).tobytes() for i in (0, 319)
    ]
    assert not {entry.key for entry in test.entries} & {entry.key for entry in validation.entries}


def test_training_images_of_some_classes_have_labels_in_the_order_of_the_task():
    dataset = Cifar10CMini("", None)
    source = SourceImages(dataset, [3, 1])
    assert Counter(source.labels) == {0: 32, 1: 32}
    for position, label in ((0, 3), (1, 1)):
        index = source.labels.index(position)
        first = next(i for i, entry in enumerate(dataset.training) if entry.label == label)
        assert source[index].tobytes() == dataset.open_training(first).tobytes()
    assert SourceImages(dataset).labels == [entry.label for entry in dataset.training]


def test_the_card_says_which_strengths_and_severities():
    strengths = "CIFAR-10-C's own strengths, made by tools/build_cifar10_c_mini.py"
    for argument, severities in (("", "severity 5"), ("fog", "severities 3, 5")):
        card = Cifar10CMini(argument, None).card()
        assert card["corruption_source"] == f"{strengths}, {severities}"
        assert card["revision"] == hashlib.sha256(TEST_FILE.read_bytes()).hexdigest()
    assert Cifar10CMini("clean", None).card()["corruption_source"] is None


def sheet(images: np.ndarray) -> np.ndarray:
    """One lossless WebP picture as an array of bytes."""
    encoded = BytesIO()
    Image.fromarray(images.reshape(-1, images.shape[2], 3)).save(encoded, "WEBP", lossless=True)
    return np.frombuffer(encoded.getvalue(), np.uint8)


def test_a_damaged_sheet_is_refused_in_one_line(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    groups = {
        "clean": sheet(images),
        "fog@5": sheet(images[::-1] - predicted(images, 102)),
        "large": sheet(np.zeros((40, 32, 32, 3), np.uint8)),
        "torn": sheet(images)[:100],
        "other": np.frombuffer(b"GIF89a", np.uint8),
    }
    about = {
        "groups": list(groups),
        "scales": [0, 102, 0, 0, 0],
        "labels": [0, 1],
        "indices": [4, 9],
    }
    np.savez(tmp_path / "x.npz", **about, **groups)
    sheets = ImageSheets(tmp_path / "x.npz")
    assert (sheets.images("fog@5") == images[::-1]).all()
    for name in ("large", "torn", "other"):
        with pytest.raises(UserError, match=rf"x\.npz: {name} cannot be read") as refused:
            sheets.images(name)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"y\.npz: groups cannot be read"):
        ImageSheets(tmp_path / "y.npz")


@pytest.fixture
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(("n01_cat", "n02_dog")):
        (tmp_path / name).mkdir()
        for image in range(2 + number):
            Image.new("L", (20, 30), 100 * number).save(tmp_path / name / f"{image}.JPEG")
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_image_folder(photos: Path):
    dataset = ImageFolder(str(photos), None)
    assert dataset.classes.names == ("n01 cat", "n02 dog")
    assert [entry.label for entry in dataset.entries] == [0, 0, 1, 1, 1]
    assert dataset.open(4).mode == "RGB"
    revision = dataset.card()["revision"]
    (photos / "n02_dog" / "2.JPEG").unlink()
    assert ImageFolder(str(photos), None).card()["revision"] != revision


def test_image_folder_names_and_root(photos: Path):
    (photos / "classnames.txt").write_text("n02_dog Chihuahua\nn01_cat tabby cat\n\n")
    dataset = ImageFolder(photos.name, photos.parent)
    assert dataset.classes.names == ("tabby cat", "Chihuahua")
    (photos / "classnames.txt").write_text("n02_dog Chihuahua\n")
    with pytest.raises(UserError, match="no name for the folder n01_cat"):
        ImageFolder(str(photos), None)


def test_a_pipe_in_the_place_of_the_names_is_refused(photos: Path):
    os.mkfifo(photos / "classnames.txt")
    with pytest.raises(UserError, match="is a named pipe"):
        ImageFolder(str(photos), None)


def test_image_folder_without_images(tmp_path: Path):
    with pytest.raises(UserError, match="no images"):
        ImageFolder(str(tmp_path), None)


def test_a_folder_is_its_content_wherever_it_lies(photos: Path, tmp_path_factory, monkeypatch):
    copy = tmp_path_factory.mktemp("elsewhere") / "mine"
    shutil.copytree(photos, copy)
    monkeypatch.chdir(photos.parent)
    folders = [
        ImageFolder(str(photos), None),
        ImageFolder(photos.name, None),
        ImageFolder(f"./{photos.name}/", None),
        ImageFolder(photos.name, photos.parent),
        ImageFolder(str(copy), None),
    ]
    assert len({folder.name for folder in folders}) > 1
    assert len({folder.identity for folder in folders}) == 1
    assert len({json.dumps(folder.card()) for folder in folders}) == 1
    assert len({tuple(map(folder.sample_id, range(5))) for folder in folders}) == 1
    assert not any(part in folders[0].identity for part in photos.parts)


def test_a_repaired_image_changes_the_identity_and_no_sample_id(photos: Path):
    before = ImageFolder(str(photos), None)
    identity, ids = before.identity, [before.sample_id(index) for index in range(5)]
    Image.new("L", (40, 60)).save(photos / "n01_cat" / "0.JPEG")
    after = ImageFolder(str(photos), None)
    assert after.identity != identity
    assert [after.sample_id(index) for index in range(5)] == ids


def test_runs_of_a_folder_by_two_paths_stand_in_one_column(ttt, records_of, photos: Path):
    """The same card, the same views drawn by TPT, the same predictions."""
    options = ("-m", "tpt", "-b", "tiny-clip", "--set", "views=16", "--device", "cpu")
    runs = []
    for path, output in ((photos, "a"), (Path("..") / photos.name, "b")):
        words = ("-d", f"imagefolder:{path}", "-o", output, "--format", "json")
        code, out, err = ttt("run", *options, *words)
        assert code == 0, err
        runs += json.loads(out)["runs"]
    one, other = runs
    assert one["fingerprint"] == other["fingerprint"]
    assert RunFolder(Path(one["path"])).card() == RunFolder(Path(other["path"])).card()
    assert records_equal(records_of(one), records_of(other))
