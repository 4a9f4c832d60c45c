"""The datasets hold what their cards say."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.records_equal import records_equal
from ttt_bench.api.errors import UserError
from ttt_bench.datasets.cifar10_c_mini import DATA, Cifar10CMini
from ttt_bench.datasets.image_folder import ImageFolder
from ttt_bench.runs.folder import RunFolder


def test_embedded_set_is_balanced_and_small():
    dataset = Cifar10CMini("", None)
    assert DATA.stat().st_size < 8_000_000
    per_group = Counter((entry.group, entry.label) for entry in dataset.entries)
    assert len({group for group, _ in per_group}) == 16
    assert set(per_group.values()) == {12}
    assert len({dataset.sample_id(i) for i in range(len(dataset.entries))}) == 1920


def test_embedded_images_are_corrupted_photographs():
    dataset = Cifar10CMini("", None)
    clean = np.stack([np.asarray(dataset.open(i)) for i in range(120)]).astype(float)
    assert clean.shape == (120, 32, 32, 3)
    for group in range(1, 16):
        first = group * 120
        corrupted = np.stack([np.asarray(dataset.open(first + i)) for i in range(120)])
        assert np.abs(corrupted - clean).mean() > 5
        assert dataset.entries[first].label == dataset.entries[0].label


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
