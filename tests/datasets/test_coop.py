"""The fine-grained datasets, each in its real layout in miniature, whole and broken."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from ttt_bench.api.errors import UserError
from ttt_bench.datasets import fine_grained
from ttt_bench.datasets.facts.fine_grained import ROWS
from ttt_bench.datasets.facts.rows import ExpectedCounts, SplitSpec
from ttt_bench.datasets.published_split import PublishedSplit, ZhouSplit

Rows = list[tuple[str, int, str]]


@dataclass(frozen=True)
class Mini:
    """A dataset with two classes: three test images, and one training image that is not there.

    Attributes:
        coop: folder of the dataset and of its images in CoOp's layout.
        tpt: the same in TPT's.
        split: name of the split file.
        test: as in the split file.
        prompt: of the class with label 1.
    """

    kind: type[ZhouSplit]
    coop: tuple[str, str]
    tpt: tuple[str, str]
    split: str
    test: Rows
    prompt: str


MINIS = [
    Mini(
        fine_grained.Flowers102, ("oxford_flowers", "jpg"), ("Flower102", "jpg"),
        "split_zhou_OxfordFlowers.json",
        [("image_06734.jpg", 0, "pink primrose"),
         ("image_05087.jpg", 1, "hard-leaved pocket orchid"),
         ("image_06736.jpg", 0, "pink primrose")],
        "a photo of a hard-leaved pocket orchid, a type of flower.",
    ),
    Mini(
        fine_grained.DescribableTextures, ("dtd", "images"), ("DTD", "images"),
        "split_zhou_DescribableTextures.json",
        [("waffled/waffled_0095.jpg", 1, "waffled"), ("banded/banded_0060.jpg", 0, "banded"),
         ("banded/banded_0061.jpg", 0, "banded")],
        "waffled texture.",
    ),
    Mini(
        fine_grained.OxfordPets, ("oxford_pets", "images"), ("OxfordPets", ""),
        "split_zhou_OxfordPets.json",
        [("Abyssinian_201.jpg", 0, "abyssinian"), ("american_bulldog_203.jpg", 1,
         "american_bulldog"), ("american_bulldog_204.jpg", 1, "american_bulldog")],
        "a photo of a american bulldog, a type of pet.",
    ),
    Mini(
        fine_grained.StanfordCars, ("stanford_cars", ""), ("StanfordCars", ""),
        "split_zhou_StanfordCars.json",
        [("cars_test/00001.jpg", 1, "2012 Suzuki Aerio Sedan"),
         ("cars_test/00002.jpg", 0, "2000 AM General Hummer SUV"),
         ("cars_test/00003.jpg", 1, "2012 Suzuki Aerio Sedan")],
        "a photo of a 2012 Suzuki Aerio Sedan.",
    ),
    Mini(
        fine_grained.Ucf101, ("ucf101", "UCF-101-midframes"), ("UCF101", ""),
        "split_zhou_UCF101.json",
        [("Yo_Yo/v_YoYo_g01_c01.jpg", 0, "Yo_Yo"),
         ("Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c01.jpg", 1, "Apply_Eye_Makeup"),
         ("Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c02.jpg", 1, "Apply_Eye_Makeup")],
        "a photo of a person doing Apply Eye Makeup.",
    ),
    Mini(
        fine_grained.Caltech101, ("caltech-101", "101_ObjectCategories"), ("Caltech101", ""),
        "split_zhou_Caltech101.json",
        [("Faces/image_0274.jpg", 0, "face"), ("airplanes/image_0001.jpg", 1, "airplane"),
         ("Faces/image_0339.jpg", 0, "face")],
        "a photo of a airplane.",
    ),
    Mini(
        fine_grained.Food101, ("food-101", "images"), ("Food101", "images"),
        "split_zhou_Food101.json",
        [("baby_back_ribs/1005649.jpg", 0, "baby_back_ribs"),
         ("apple_pie/1011328.jpg", 1, "apple_pie"), ("apple_pie/101251.jpg", 1, "apple_pie")],
        "a photo of apple pie, a type of food.",
    ),
    Mini(
        fine_grained.Sun397, ("sun397", "SUN397"), ("SUN397", ""), "split_zhou_SUN397.json",
        [("a/abbey/sun_ampgscpuxfsppbqw.jpg", 0, "abbey"),
         ("a/apse/indoor/sun_aovokfprzaqmkjkf.jpg", 1, "indoor apse"),
         ("a/abbey/sun_aanssuonlcuhlcyk.jpg", 0, "abbey")],
        "a photo of a indoor apse.",
    ),
    Mini(
        fine_grained.EuroSat, ("eurosat", "2750"), ("eurosat", ""), "split_zhou_EuroSAT.json",
        [("SeaLake/SeaLake_1.jpg", 0, "Sea or Lake"),
         ("AnnualCrop/AnnualCrop_1048.jpg", 1, "Annual Crop Land"),
         ("AnnualCrop/AnnualCrop_1613.jpg", 1, "Annual Crop Land")],
        "a centered satellite photo of Annual Crop Land.",
    ),
]  # fmt: skip
each = pytest.mark.parametrize("mini", MINIS, ids=lambda mini: mini.kind.spec.name)


def save_image(path: Path, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (size, size), 90).save(path)


def publish(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[PublishedSplit],
    images: int,
    classes: int,
    per_class: tuple[int, ...] = (),
) -> None:
    """Make these the published numbers of a dataset."""
    counts = ExpectedCounts(images=images, classes=classes, per_class=per_class)
    monkeypatch.setattr(kind, "spec", replace(kind.spec, counts=counts))


Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Write a miniature and make its numbers the known ones; returns its split file."""

    def build(mini: Mini, layout: tuple[str, str] | None = None, root: Path = tmp_path) -> Path:
        folder, images = layout or mini.coop
        for path, _, _ in mini.test:
            save_image(root / folder / images / path)
        path, label, name = mini.test[0]
        training = [(f"{Path(path).parent.as_posix()}/train.jpg".removeprefix("./"), label, name)]
        split = root / folder / mini.split
        split.write_text(json.dumps({"train": training, "val": training, "test": mini.test}))
        publish(monkeypatch, mini.kind, images=3, classes=2)
        return split

    return build


@each
def test_layouts(build: Build, tmp_path: Path, mini: Mini):
    build(mini, mini.coop, tmp_path / "coop")
    build(mini, mini.tpt, tmp_path / "tpt")
    for dataset in (mini.kind("", tmp_path / "coop"), mini.kind("", tmp_path / "tpt")):
        assert [entry.label for entry in dataset.entries] == [label for _, label, _ in mini.test]
        names = {label: name.replace("_", " ") for _, label, name in mini.test}
        assert dataset.classes.names == (names[0], names[1])
        assert dataset.classes.prompt.format(dataset.classes.names[1]) == mini.prompt
        assert dataset.augmix
        assert dataset.open(1).mode == "RGB"
        assert list(dataset.problems()) == []
        assert dataset.card() == mini.kind("", tmp_path / "coop").card()
        assert len({dataset.sample_id(index) for index in range(3)}) == 3


@each
def test_training_images_may_be_missing(build: Build, tmp_path: Path, mini: Mini):
    build(mini)
    dataset = mini.kind("", tmp_path)
    assert [entry.label for entry in dataset.training] == [mini.test[0][1]]
    with pytest.raises(UserError, match=r"train\.jpg: there is no such file"):
        dataset.open_training(0)
    save_image(dataset.path(0).with_name("train.jpg"))
    assert dataset.open_training(0).mode == "RGB"


@each
def test_missing_image_is_named(build: Build, tmp_path: Path, mini: Mini):
    build(mini)
    folder = tmp_path / mini.coop[0] / mini.coop[1]
    (folder / mini.test[1][0]).unlink()
    with pytest.raises(UserError) as refused:
        mini.kind("", tmp_path)
    assert str(refused.value).startswith(f"{folder / mini.test[1][0]}: missing; of 3 test images 1")


@each
def test_split_that_is_not_the_published_one(build: Build, tmp_path: Path, mini: Mini, monkeypatch):
    build(mini)
    publish(monkeypatch, mini.kind, images=4, classes=2)
    with pytest.raises(UserError, match=rf"{mini.split}: 3 test images, 4 are published"):
        mini.kind("", tmp_path)
    publish(monkeypatch, mini.kind, images=3, classes=3)
    with pytest.raises(UserError, match="2 classes, 3 are published; missing: label 2"):
        mini.kind("", tmp_path)


PETS = MINIS[2]
BROKEN = {
    "train and test only": ({"val": None}, "not a split file of CoOp's form"),
    "no label": ({"val": [["a.jpg", "abyssinian"]]}, "entry 0 of 'val'"),
    "label as text": ({"val": [["a.jpg", "0", "abyssinian"]]}, "entry 0 of 'val'"),
    "a number for an entry": ({"val": [3]}, "not a split file of CoOp's form"),
    "a path upwards": ({"test": [["../../secret.jpg", 0, "abyssinian"]]}, "leaves the dataset's"),
    "a training path upwards": ({"train": [["a/../../b.jpg", 0, "abyssinian"]]}, "leaves the"),
    "an absolute path": ({"test": [["/secret.jpg", 0, "abyssinian"]]}, "leaves the dataset's"),
    "an empty path": ({"test": [["", 0, "abyssinian"]]}, "leaves the dataset's"),
    "an image twice": (
        {"test": [["american_bulldog_203.jpg", 0, "abyssinian"]]},
        r"american_bulldog_203\.jpg is listed more than once",
    ),
    "a missing class": ({"test": [["b.jpg", 1, "american_bulldog"]]}, r"missing: label 0 \(abys"),
    "a class too much": ({"val": [["a.jpg", 2, "beagle"]]}, r"too much: label 2 \(beagle\)"),
    "one label, two names": (
        {"val": [["a.jpg", 0, "cat"]]},
        "label 0 is 'abyssinian' and also 'cat'",
    ),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_split(build: Build, tmp_path: Path, change: dict, message: str):
    file = build(PETS)
    split = json.loads(file.read_text())
    for part, rows in change.items():
        kept = split[part][1:] if part == "test" else []
        split[part] = [*rows, *kept] if rows is not None else None
    file.write_text(json.dumps(split))
    with pytest.raises(UserError, match=message) as refused:
        PETS.kind("", tmp_path)
    assert str(refused.value).startswith(str(file))


@pytest.mark.parametrize("name", ["american bulldog", " "])
def test_class_names_that_cannot_be_told_apart(build: Build, tmp_path: Path, name: str):
    file = build(PETS)
    file.write_text(file.read_text().replace('"abyssinian"', json.dumps(name)))
    with pytest.raises(UserError, match="class name"):
        PETS.kind("", tmp_path)


@pytest.mark.parametrize("keep", [0, 30])
def test_truncated_split(build: Build, tmp_path: Path, keep: int):
    file = build(PETS)
    file.write_text(file.read_text()[:keep])
    with pytest.raises(UserError, match="not a split file of CoOp's form"):
        PETS.kind("", tmp_path)


def test_a_pipe_in_the_place_of_the_split_is_refused(build: Build, tmp_path: Path):
    file = build(PETS)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError, match="is a named pipe"):
        PETS.kind("", tmp_path)


def test_nothing_there(build: Build, tmp_path: Path):
    with pytest.raises(UserError, match="oxford-pets: no folder oxford_pets or OxfordPets"):
        PETS.kind("", tmp_path)
    file = build(PETS)
    (tmp_path / "oxford_pets" / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"images/Abyssinian_201\.jpg: missing; of 3 .* 3 are"):
        PETS.kind("", tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=r"no split_zhou_OxfordPets\.json; take it from"):
        PETS.kind("", tmp_path)


def test_verify_finds_a_truncated_image_and_wrong_counts(build: Build, tmp_path: Path, monkeypatch):
    build(PETS)
    image = tmp_path / "oxford_pets" / "images" / "american_bulldog_203.jpg"
    save_image(image, 64)
    image.write_bytes(image.read_bytes()[:-20])
    publish(monkeypatch, PETS.kind, images=3, classes=2, per_class=(2, 1))
    counts, cats, truncated = PETS.kind("", tmp_path).problems()
    assert "1 images of abyssinian, 2 are published" in counts
    assert "2 images of american bulldog, 1 are published" in cats
    assert truncated.startswith(f"{image}: not a readable image (")


def test_another_image_of_the_same_name_changes_the_revision(build: Build, tmp_path: Path):
    build(PETS)
    before = PETS.kind("", tmp_path).card()
    save_image(tmp_path / "oxford_pets" / "images" / "Abyssinian_201.jpg", 64)
    assert PETS.kind("", tmp_path).card() != before


AIRCRAFT = fine_grained.FgvcAircraft


@pytest.fixture(params=["fgvc_aircraft", "fgvc_aircraft/data", "fgvc-aircraft-2013b/data"])
def aircraft(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / request.param
    for image in ("1514522", "0747566", "1008575"):
        save_image(folder / "images" / f"{image}.jpg")
    (folder / "variants.txt").write_text("F/A-18\nBAE 146-200\n")
    (folder / "images_variant_test.txt").write_text(
        "1514522 BAE 146-200\n0747566 F/A-18\n1008575 BAE 146-200\n"
    )
    (folder / "images_variant_train.txt").write_text("1025794 F/A-18\n")
    publish(monkeypatch, AIRCRAFT, images=3, classes=2)
    return folder


def test_aircraft(aircraft: Path, tmp_path: Path):
    dataset = AIRCRAFT("", tmp_path)
    assert dataset.classes.names == ("F/A-18", "BAE 146-200")
    assert [(entry.key, entry.label) for entry in dataset.entries] == [
        ("1514522.jpg", 1), ("0747566.jpg", 0), ("1008575.jpg", 1),
    ]  # fmt: skip
    assert dataset.classes.prompt.format("F/A-18") == "a photo of a F/A-18, a type of aircraft."
    assert dataset.open(2).mode == "RGB"
    with pytest.raises(UserError, match=r"1025794\.jpg: there is no such file"):
        dataset.open_training(0)
    (aircraft / "images" / "0747566.jpg").unlink()
    with pytest.raises(UserError, match=r"images/0747566\.jpg: missing; of 3 test images 1"):
        AIRCRAFT("", tmp_path)


def test_broken_aircraft(aircraft: Path, tmp_path: Path):
    (aircraft / "images_variant_test.txt").write_text("1514522 BAE 146\n")
    with pytest.raises(UserError, match=r"images_variant_test\.txt: '1514522 BAE 146' names no"):
        AIRCRAFT("", tmp_path)
    (aircraft / "images_variant_test.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"images_variant_test\.txt: not readable as text"):
        AIRCRAFT("", tmp_path)
    (aircraft / "variants.txt").unlink()
    with pytest.raises(UserError, match=r"no variants\.txt"):
        AIRCRAFT("", tmp_path)


rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)

# Test images of CoOp's splits (Zhou et al. 2022, table of datasets).
PUBLISHED = {
    "flowers102": 2463, "dtd": 1692, "oxford-pets": 3669, "stanford-cars": 8041, "ucf101": 3783,
    "caltech101": 2465, "food101": 30300, "sun397": 19850, "fgvc-aircraft": 3333, "eurosat": 8100,
}  # fmt: skip


@rows
def test_published_numbers(row: SplitSpec):
    counts = row.counts
    assert counts.images == PUBLISHED[row.name]
    assert f"{counts.classes} " in row.summary
    assert f"{counts.images} test images" in row.summary
    per_class = counts.per_class * (counts.classes if len(counts.per_class) == 1 else 1)
    assert sum(per_class) in (0, counts.images)
    assert len(per_class) in (0, counts.classes)


@rows
def test_a_reader_has_the_row_that_names_it(row: SplitSpec):
    assert row.load().spec is row
    assert row.how_to_get is not None
    assert row.how_to_get.archives or row.how_to_get.steps


def test_templates():
    """As many as CLIP's authors published for each, all of them with a place for the name."""
    assert {row.name: len(row.templates) for row in ROWS} == {
        "flowers102": 1, "dtd": 8, "oxford-pets": 1, "stanford-cars": 8, "ucf101": 48,
        "caltech101": 34, "food101": 1, "sun397": 2, "fgvc-aircraft": 2, "eurosat": 3,
    }  # fmt: skip
    for row in ROWS:
        assert len(set(row.templates)) == len(row.templates)
        assert all(template.count("{}") == 1 for template in (row.prompt, *row.templates))
        assert row.name == "dtd" or row.prompt in row.templates
