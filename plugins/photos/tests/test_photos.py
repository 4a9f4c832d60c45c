"""The photographs, their corruptions and the classifier that comes with them."""

import csv
import json
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from ttt_bench_photos import corrupted, lite0
from ttt_bench_photos.corrupted import PhotosC
from ttt_bench_photos.photographs import IMAGES, TABLE

from tests.test_bad_input import one_line
from ttt_bench import (
    IMAGENET_CLASS_SET,
    UserError,
    corrupt,
    default_backbone,
    imagenet_c_crop,
    load_backbone,
    load_dataset,
)
from ttt_bench.datasets.imagenet import synsets

PACKAGE = Path(corrupted.__file__).parent
MOST_WHEEL_BYTES = 12_000_000
# Bytes of a file's two headers in a zip archive, without its name.
ZIP_HEADERS = 76 + 24


@pytest.fixture
def rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_photograph_is_in_the_table_and_has_the_label_of_its_synset(rows):
    assert len(rows) == 256
    assert {path.stem for path in IMAGES.iterdir()} == {row["id"] for row in rows}
    assert [row["synset"] for row in rows] == [synsets()[int(row["label"])] for row in rows]
    photos = load_dataset("photos")
    assert [(entry.key, entry.label) for entry in photos.entries] == [
        (row["id"], int(row["label"])) for row in rows
    ]
    assert photos.classes is IMAGENET_CLASS_SET
    for index in range(0, 256, 16):
        image = photos.open(index)
        assert (image.mode, min(image.size)) == ("RGB", 256)


def test_every_photograph_has_its_author_address_and_licence(rows):
    for row in rows:
        assert row["author"].strip()
        assert "\\" not in row["author"]
        assert re.match(r"https?://(www\.)?flickr\.com/.+/\d{10}\d+", row["page"])
        assert row["image"].startswith("https://")
        assert row["licence"] == "https://creativecommons.org/licenses/by/2.0/"


def test_the_wheel_is_below_12_megabytes_even_if_nothing_is_compressed():
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(files) > 256
    names = sum(2 * len(str(path.relative_to(PACKAGE.parent))) for path in files)
    headers = ZIP_HEADERS * len(files) + names
    assert sum(path.stat().st_size for path in files) + headers < MOST_WHEEL_BYTES


@pytest.fixture
def contrast() -> PhotosC:
    return PhotosC("contrast", None)


def test_a_corrupted_photograph_depends_on_photograph_corruption_and_severity(contrast: PhotosC):
    photos, entry = load_dataset("photos"), contrast.entries[7]
    assert (entry.key, entry.group) == (f"contrast/3/{photos.entries[7].key}", "contrast")
    cropped = np.asarray(imagenet_c_crop(photos.open(7)))
    expected = corrupt(cropped, "contrast", 3, photos.entries[7].key)
    # Made, then from the cache.
    for _ in range(2):
        assert np.array_equal(np.asarray(contrast.open(7)), expected)
    everything = load_dataset("photos-c")
    (index,) = (i for i, other in enumerate(everything.entries) if other.key == entry.key)
    assert everything.sample_id(index) == contrast.sample_id(7)
    assert np.array_equal(np.asarray(everything.open(index)), expected)
    stronger = np.asarray(load_dataset("photos-c:contrast@4").open(7))
    assert not np.array_equal(stronger, expected)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the images that are corrupted, in turn."""
    keys: list[str] = []

    def corrupt_and_note(image: np.ndarray, corruption: str, severity: int, key: str) -> np.ndarray:
        keys.append(f"{corruption}/{severity}/{key}")
        return corrupt(image, corruption, severity, key)

    monkeypatch.setattr(corrupted, "corrupt", corrupt_and_note)
    return keys


def test_a_corrupted_photograph_is_made_once(contrast: PhotosC, made: list[str], ttt):
    contrast.open(0)
    PhotosC("contrast@3", None).open(0)
    PhotosC("contrast,fog", None).open(0)
    PhotosC("contrast,fog", None).open(256)
    assert made == [contrast.entries[0].key, PhotosC("fog", None).entries[0].key]
    _, out, _ = ttt("cache", "--format", "json")
    (file,) = json.loads(out)["files"]
    content = "corrupted images, pixels by zlib"
    assert (file["dataset"], file["content"]) == ("photos-c", content)
    assert file["entries"] == 2


@pytest.mark.parametrize("damage", ["entry", "file"])
def test_a_damaged_image_in_the_cache_is_made_again(
    contrast: PhotosC, made: list[str], damage: str
):
    before = np.asarray(contrast.open(0))
    path = contrast.images.path
    if damage == "file":
        path.write_bytes(b"\1" * path.stat().st_size)
    else:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE entries SET value = substr(value, 1, length(value) - 9)")
    assert np.array_equal(np.asarray(contrast.open(0)), before)
    assert len(made) == 2
    if damage == "file":
        contrast.open(0)
    assert np.array_equal(np.asarray(contrast.open(0)), before)
    assert len(made) <= 3
    assert contrast.images.read([contrast.entries[0].key])


def test_equal_selections_are_one_dataset():
    names = ("photos-c", "photos-c:@3", "photos-c:contrast", "photos-c:contrast@3")
    identities = [load_dataset(name).identity for name in names]
    assert identities == ["photos-c:@3"] * 2 + ["photos-c:contrast@3"] * 2
    assert load_dataset("photos-c:fog@5,contrast").identity == "photos-c:contrast@3,fog@5"
    everything = load_dataset("photos-c")
    assert (len(everything.entries), len({e.group for e in everything.entries})) == (3840, 15)
    source = everything.card()["corruption_source"]
    assert source.startswith("generated: imagecorruptions-imaug ")
    assert source.endswith(", severity 3")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("photos:fog", "takes no argument"),
        ("photos-c:fgo", "unknown corruption 'fgo'; did you mean fog"),
        ("photos-c:fog@7", "unknown severity '7'; known: 1, 2, 3, 4, 5"),
        ("photos-c:fog:generated", "photos-c:fog:generated: takes no second colon"),
        ("photos-c:fog,", "a comma has no condition beside it"),
    ],
)
def test_a_wrong_argument_is_one_line(ttt, dataset: str, message: str):
    one_line(ttt("run", "--method", "source", "--dataset", dataset), message)


def test_lite0_is_the_default_of_methods_that_it_fits():
    for dataset in ("photos", "photos-c:contrast@3"):
        assert default_backbone(dataset) == "lite0"
        dual = default_backbone(dataset, needs=frozenset({"DualEncoder"}))
        assert dual == "open_clip:ViT-B-16/openai"


def test_lite0_knows_the_photographs(ttt):
    words = ("--dataset", "photos", "--limit", "32", "--device", "cpu", "--format", "json")
    code, out, err = ttt("run", "--method", "source", *words)
    assert code == 0, err
    (run,) = json.loads(out)["runs"]
    assert (run["backbone"], run["n"]) == ("lite0", 32)
    assert run["top1"] > 75


def test_lite0_has_its_weights_on_the_card_and_takes_no_others(ttt, tmp_path: Path):
    backbone = load_backbone("lite0", "cpu")
    card = backbone.card()
    assert card["weights"] == backbone.weights_hash()
    assert (card["activation"], backbone.image_size) == ("ReLU6", 224)
    (tmp_path / "w.pth").write_bytes(b"")
    words = ("--dataset", "photos", "--backbone", "lite0", "--weights", "w.pth")
    one_line(ttt("run", "--method", "source", *words), "lite0 brings its own weights")


def test_lite0_refuses_missing_and_other_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, other)
    with monkeypatch.context() as patch:
        patch.setattr(lite0, "_weights_file", lambda: other)
        with pytest.raises(UserError, match=r"other\.pth is another file than that of .*==0\.1\.0"):
            load_backbone("lite0", "cpu")
    monkeypatch.setitem(sys.modules, lite0.PACKAGE, None)
    with pytest.raises(UserError, match=r"^lite0: its weights are not installed .*==0\.1\.0$"):
        load_backbone("lite0", "cpu")
