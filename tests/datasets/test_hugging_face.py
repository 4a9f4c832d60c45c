"""Tables of the `datasets` library: columns, splits, names, and what is refused."""

import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from huggingface_hub import constants as hub
from PIL import Image

from tests.datasets.drawn_images import CLASSES, draw, photographs, write_folder
from ttt_bench import UserError
from ttt_bench.datasets import hugging_face
from ttt_bench.datasets.hugging_face import HuggingFaceImages
from ttt_bench.datasets.image_folder import ImageFolder
from ttt_bench.toolkit import network

NAMES = ["a_cat", "a dog", "hen"]
FEATURES = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}


@pytest.fixture(autouse=True)
def no_bars(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory):
    """No progress bars, no hub, and no cache of the user's."""
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf-datasets")
    )
    datasets.disable_progress_bars()


def rows(named: bool = True) -> dict[str, list[Any]]:
    """Return the columns of the drawn photographs, with their file names or without."""
    return {
        "image": [
            {"bytes": image, "path": Path(name).name if named else None}
            for name, image in photographs().items()
        ],
        "label": [CLASSES.index(name.partition("/")[0]) for name in photographs()],
    }


def save(folder: Path, columns: Mapping[str, Any], features: Mapping[str, Any] = FEATURES) -> Path:
    """Write a table as `save_to_disk` does."""
    table = datasets.Dataset.from_dict(dict(columns), datasets.Features(features))
    table.save_to_disk(folder)
    return folder


def refused(argument: object) -> str:
    with pytest.raises(UserError) as error:
        HuggingFaceImages(str(argument), None)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_saved_folder_has_images_and_names(tmp_path: Path):
    dataset = HuggingFaceImages(str(save(tmp_path / "photos", rows())), None)
    assert dataset.classes.names == ("a cat", "a dog", "hen")
    assert [entry.label for entry in dataset.entries] == [0] * 3 + [1] * 3 + [2] * 3
    assert dataset.entries[4].key == "a dog/1.jpg"
    write_folder(tmp_path / "folder", photographs())
    folder = ImageFolder(str(tmp_path / "folder"), None)
    by_key = {entry.key: index for index, entry in enumerate(folder.entries)}
    there = by_key["tabby_dog/1.jpg"]
    assert dataset.encoded(4) == folder.encoded(there)
    assert np.array_equal(dataset.open(4), folder.open(there))
    assert dataset.identity.startswith("hf:")
    assert "photos" not in dataset.identity
    assert dataset.read_from == "hf"
    assert HuggingFaceImages("photos", tmp_path).card() == dataset.card()


@pytest.mark.parametrize("named", [True, False])
def test_the_order_of_rows_changes_nothing(named: bool, tmp_path: Path):
    first = HuggingFaceImages(str(save(tmp_path / "a", rows(named))), None)
    turned = {name: column[::-1] for name, column in rows(named).items()}
    second = HuggingFaceImages(str(save(tmp_path / "b", turned)), None)
    assert (second.identity, second.entries) == (first.identity, first.entries)
    assert [second.encoded(i) for i in range(9)] == [first.encoded(i) for i in range(9)]
    turned["image"][0] = {"bytes": draw(77), "path": turned["image"][0]["path"]}
    third = HuggingFaceImages(str(save(tmp_path / "c", turned)), None)
    assert third.identity != first.identity


def test_equal_images_without_names_are_told_apart(tmp_path: Path):
    columns = rows(named=False)
    columns["image"][1] = columns["image"][0]
    dataset = HuggingFaceImages(str(save(tmp_path / "a", columns)), None)
    ids = {dataset.sample_id(index) for index in range(len(dataset.entries))}
    assert len(ids) == 9


def test_names_of_the_users_own_change_no_sample(tmp_path: Path):
    folder = save(tmp_path / "photos", rows())
    (tmp_path / "names.txt").write_text("pet cat\npet dog\nchicken\n")
    own = HuggingFaceImages(f"{folder},classes={tmp_path / 'names.txt'}", None)
    assert own.classes.names == ("pet cat", "pet dog", "chicken")
    plain = HuggingFaceImages(str(folder), None)
    assert (own.identity, own.entries) == (plain.identity, plain.entries)
    (tmp_path / "names.txt").write_text("pet cat\n\nchicken\n")
    assert "line 2 has no class name" in refused(f"{folder},classes={tmp_path / 'names.txt'}")


def test_the_test_split_is_taken_and_others_by_name(tmp_path: Path):
    table = datasets.Dataset.from_dict(rows(), datasets.Features(FEATURES))
    splits = {"train": table.select(range(4)), "test": table, "odd": table.select([0, 8])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "photos")
    assert len(HuggingFaceImages(str(tmp_path / "photos"), None).entries) == 9
    odd = HuggingFaceImages(f"{tmp_path / 'photos'},split=odd", None)
    assert [entry.key for entry in odd.entries] == ["a_cat/0.jpg", "hen/2.jpg"]
    assert "unknown split 'tst'; did you mean test?" in refused(f"{tmp_path / 'photos'},split=tst")
    del splits["test"]
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "others")
    assert "has the splits train, odd; say which by split=" in refused(tmp_path / "others")


def test_a_folder_of_parquet_is_read_without_the_hub(tmp_path: Path):
    table = datasets.Dataset.from_dict(rows(), datasets.Features(FEATURES))
    (tmp_path / "data").mkdir()
    table.to_parquet(str(tmp_path / "data" / "test-00000-of-00001.parquet"))
    parquet = HuggingFaceImages(str(tmp_path), None)
    saved = HuggingFaceImages(str(save(tmp_path / "saved", rows())), None)
    assert (parquet.identity, parquet.entries) == (saved.identity, saved.entries)
    assert parquet.encoded(5) == saved.encoded(5)


def test_numbers_and_words_are_labels(tmp_path: Path):
    numbers = {**FEATURES, "label": datasets.Value("int64")}
    folder = save(tmp_path / "numbers", rows(), numbers)
    assert "its labels are numbers without names; give classes=FILE" in refused(folder)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    named = HuggingFaceImages(f"{folder},classes={tmp_path / 'names.txt'}", None)
    assert named.classes.names == ("a cat", "a dog", "hen")
    words = {**rows(), "label": [CLASSES[label] for label in rows()["label"]]}
    folder = save(tmp_path / "words", words, {**FEATURES, "label": datasets.Value("string")})
    assert "no columns may be the labels" in refused(folder)
    chosen = HuggingFaceImages(f"{folder},label=label", None)
    assert chosen.classes.names == ("cat", "hen", "tabby dog")


def test_columns_that_cannot_be_guessed_are_listed(tmp_path: Path):
    columns = {**rows(), "mask": rows()["image"], "caption": ["x"] * 9}
    features = {**FEATURES, "mask": datasets.Image(), "caption": datasets.Value("string")}
    folder = save(tmp_path / "two", columns, features)
    message = refused(folder)
    assert "2 columns may be the images; say which by image=COLUMN" in message
    assert "image (Image), label (ClassLabel), mask (Image), caption (string)" in message
    assert len(HuggingFaceImages(f"{folder},image=mask", None).entries) == 9
    assert "caption is no column of images" in refused(f"{folder},image=caption")
    assert "nothing is no column of labels" in refused(f"{folder},image=mask,label=nothing")


def test_a_file_that_the_table_points_to_is_read(tmp_path: Path, monkeypatch):
    files = write_folder(tmp_path / "files", photographs())
    columns = {
        "image": [{"bytes": None, "path": str(files / name)} for name in photographs()],
        "label": rows()["label"],
    }
    inside = HuggingFaceImages(str(save(tmp_path / "b", rows())), None)
    # `save_to_disk` would put the files into the table.
    table = datasets.Dataset.from_dict(columns, datasets.Features(FEATURES))
    monkeypatch.setattr(hugging_face, "load_split", lambda *arguments: (table, "hf:lab/photos"))
    dataset = HuggingFaceImages("lab/photos", None)
    assert dataset.read_from == "hf:lab/photos"
    assert (dataset.identity, dataset.entries) == (inside.identity, inside.entries)
    assert dataset.encoded(3) == inside.encoded(3)
    (files / "cat" / "0.jpg").unlink()
    assert "row 0 has no image" in refused("lab/photos")


def test_images_that_cannot_be_decoded_or_labelled_are_named(tmp_path: Path):
    columns = rows()
    columns["image"][2] = {"bytes": b"no image", "path": "2.jpg"}
    dataset = HuggingFaceImages(str(save(tmp_path / "a", columns)), None)
    with pytest.raises(UserError, match=r"a: row 2: not a readable image"):
        dataset.open(2)
    columns["label"][3] = -1
    assert "images without a label (label -1)" in refused(save(tmp_path / "b", columns))
    columns["label"][3] = None
    assert "label is empty in row 3" in refused(save(tmp_path / "c", columns))


def test_an_absent_dataset_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    message = refused("lab/photos")
    assert "no folder lab/photos is here" in message
    assert "not in the cache of the datasets library" in message
    # A hub that does not answer.
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(network, "SECONDS", 0.5)
    started = time.perf_counter()
    assert "127.0.0.1:9 does not answer" in refused("lab/photos,split=test,revision=abc")
    assert time.perf_counter() - started < 10
    (tmp_path / "empty").mkdir()
    assert "not a folder that the datasets library reads" in refused(tmp_path / "empty")
    assert "a folder has no revision" in refused(f"{tmp_path / 'empty'},revision=abc")


def test_sixteen_bit_grey_keeps_its_upper_bits_as_in_a_folder(tmp_path: Path):
    buffer = BytesIO()
    Image.fromarray(np.full((4, 4), 0x1234, np.uint16)).save(buffer, "PNG")
    columns = {"image": [{"bytes": buffer.getvalue(), "path": "grey.png"}], "label": [0]}
    dataset = HuggingFaceImages(str(save(tmp_path / "grey", columns)), None)
    assert dataset.open(0).getpixel((0, 0)) == (0x12, 0x12, 0x12)
