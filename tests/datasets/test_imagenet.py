"""ImageNet and the sets that share its classes: labels, names, counts, and folders refused."""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo

from ttt_bench import UserError
from ttt_bench.datasets.facts import cifar
from ttt_bench.datasets.facts import imagenet as facts
from ttt_bench.datasets.imagenet import (
    ALL,
    ImageNet,
    ImageNetA,
    ImageNetFolders,
    ImageNetR,
    ImageNetSketch,
    ImageNetV2,
)
from ttt_bench.registry import registry

SYNSETS: list[str] = ImageNetInfo().label_names()


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory):
    """No data of the user's own is looked at."""
    monkeypatch.delenv("TTT_BENCH_DATA", raising=False)
    empty = tmp_path_factory.mktemp("home")
    monkeypatch.setattr("platformdirs.user_data_path", lambda _: empty)


def fill(place: Path, folders: Iterable[str], names: Iterable[str]):
    """One tiny image under every name in every folder."""
    place.mkdir(parents=True, exist_ok=True)
    image = place.parent / "image.jpg"
    Image.new("RGB", (5, 4), (200, 0, 0)).save(image, "JPEG")
    names = list(names)
    for folder in folders:
        (place / folder).mkdir()
        for name in names:
            shutil.copyfile(image, place / folder / name)
    image.unlink()


def publish(monkeypatch: pytest.MonkeyPatch, kind: type[ImageNetFolders], per_class: int):
    """Pretend that the whole set has this many images of each class."""
    classes = 200 if kind.spec.class_list else 1000
    counts = {"total": classes * per_class}
    if kind.spec.per_class:
        counts["per_class"] = per_class
    monkeypatch.setattr(kind, "spec", replace(kind.spec, **counts))


@pytest.mark.parametrize("place", ["imagenet/images/val", "ImageNet/val", "ILSVRC2012"])
def test_imagenet(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    publish(monkeypatch, ImageNet, 2)
    # Made in another order than that of the labels.
    names = ["ILSVRC2012_val_00000293.JPEG", "ILSVRC2012_val_00002138.JPEG"]
    fill(tmp_path / place, reversed(SYNSETS), names)
    dataset = ImageNet("", tmp_path)
    assert dataset.name == "imagenet"
    assert dataset.classes.names == tuple(IMAGENET_CLASSNAMES)
    assert dataset.classes.imagenet_indices == tuple(range(1000))
    assert [entry.label for entry in dataset.entries] == sorted([*range(1000), *range(1000)])
    assert dataset.entries[2].key == "n01443537/ILSVRC2012_val_00000293.JPEG"
    assert dataset.classes.names[dataset.entries[2].label] == "goldfish"
    assert dataset.open(2).mode == "RGB"
    assert dataset.path(2) == tmp_path / place / dataset.entries[2].key
    assert dataset.expected_counts() == {ALL: 2000, **dict.fromkeys(SYNSETS, 2)}
    assert dataset.actual_counts() == dataset.expected_counts()
    assert not list(dataset.problems())


def test_the_card_is_that_of_the_images_not_of_the_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    publish(monkeypatch, ImageNet, 1)
    fill(tmp_path / "a" / "imagenet" / "images" / "val", SYNSETS, ["1.JPEG"])
    fill(tmp_path / "b" / "ImageNet" / "val", SYNSETS, ["1.JPEG"])
    first, second = ImageNet("", tmp_path / "a"), ImageNet("", tmp_path / "b")
    assert first.card() == second.card()
    assert first.sample_id(7) == second.sample_id(7)
    with second.path(7).open("ab") as file:
        file.write(b"\0")
    assert first.card() != second.card()


@pytest.mark.parametrize(
    ("kind", "places", "file"),
    [
        (
            ImageNetA,
            ["imagenet-a", "imagenet-adversarial/imagenet-a", "imagenet-a/imagenet-a"],
            "0.000116_digital clock _ digital clock_0.865662.jpg",
        ),
        (
            ImageNetR,
            ["imagenet-r", "imagenet-rendition/imagenet-r", "ImageNet-R"],
            "deviantart_0.jpg",
        ),
    ],
)
def test_subsets(
    kind: type[ImageNetFolders],
    places: list[str],
    file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    publish(monkeypatch, kind, 1)
    listed = files("timm") / "data" / "_info" / f"imagenet_{kind.spec.name[-1]}_synsets.txt"
    members = listed.read_text().split()
    for number, place in enumerate(places):
        fill(tmp_path / str(number) / place, members[::-1], [file])
        (tmp_path / str(number) / place / "README.txt").write_text("not an image")
        dataset = kind("", tmp_path / str(number))
        assert [entry.key.split("/")[0] for entry in dataset.entries] == members
        assert [entry.label for entry in dataset.entries] == list(range(200))
        assert dataset.classes.imagenet_indices == tuple(
            SYNSETS.index(synset) for synset in members
        )
        names = [IMAGENET_CLASSNAMES[SYNSETS.index(synset)] for synset in members]
        assert dataset.classes.names == tuple(names)
        assert dataset.open(199).size == (5, 4)
    fill(tmp_path / "0" / places[0], [next(s for s in SYNSETS if s not in members)], [file])
    with pytest.raises(UserError, match="is none of its 200 class folders"):
        kind("", tmp_path / "0")


@pytest.mark.parametrize(
    "place",
    [
        "imagenetv2-matched-frequency-format-val",
        "imagenetv2/imagenetv2-matched-frequency-format-val",
        "imagenet-v2/imagenetv2-matched-frequency-format-val",
    ],
)
def test_v2_folders_are_numbers(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    publish(monkeypatch, ImageNetV2, 1)
    fill(tmp_path / place, map(str, range(1000)), ["00e7e5d4b0b2c8a6.jpeg"])
    dataset = ImageNetV2("", tmp_path)
    keys = [entry.key.split("/")[0] for entry in dataset.entries]
    assert keys[1:12] == [*map(str, range(1, 12))]
    assert [entry.label for entry in dataset.entries] == list(range(1000))
    assert dataset.classes.names[10] == IMAGENET_CLASSNAMES[10]
    shutil.rmtree(tmp_path / place / "10")
    with pytest.raises(UserError, match=r"999 class folders in .*, 1000 expected \(10 is missing"):
        ImageNetV2("", tmp_path)


@pytest.mark.parametrize(
    "place", ["ImageNet-Sketch", "imagenet-sketch/images", "imagenet-sketch/sketch"]
)
def test_sketch(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    publish(monkeypatch, ImageNetSketch, 1)
    fill(tmp_path / place, SYNSETS, ["sketch_0.JPEG"])
    dataset = ImageNetSketch("", tmp_path)
    assert [entry.label for entry in dataset.entries] == list(range(1000))
    assert dataset.expected_counts() == {ALL: 1000}
    (tmp_path / place / SYNSETS[5] / "sketch_1.JPEG").write_bytes(dataset.path(0).read_bytes())
    with pytest.raises(UserError, match=r"1001 images in .*, 1000 expected; unpack it again"):
        ImageNetSketch("", tmp_path)


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    publish(monkeypatch, ImageNet, 2)
    fill(tmp_path / "imagenet" / "val", SYNSETS, ["1.JPEG", "2.JPEG"])
    return tmp_path / "imagenet" / "val"


def refused(root: Path) -> str:
    with pytest.raises(UserError) as error:
        ImageNet("", root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_class_is_refused(imagenet: Path, tmp_path: Path):
    shutil.rmtree(imagenet / SYNSETS[400])
    message = refused(tmp_path)
    assert f"999 class folders in {imagenet}, 1000 expected ({SYNSETS[400]} is missing)" in message
    assert "imagenet:PATH" in message


def test_a_wrong_total_names_the_class(imagenet: Path, tmp_path: Path):
    (imagenet / SYNSETS[3] / "1.JPEG").unlink()
    assert f"1999 images in {imagenet}, 2000 expected ({SYNSETS[3]} has 1, not 2)" in refused(
        tmp_path
    )


def test_an_image_in_the_wrong_folder_is_found_by_verify(imagenet: Path, tmp_path: Path):
    (imagenet / SYNSETS[3] / "1.JPEG").rename(imagenet / SYNSETS[4] / "3.JPEG")
    problems = list(ImageNet("", tmp_path).problems())
    assert [problem.split(": ")[1] for problem in problems] == [
        f"1 images of {SYNSETS[3]}, 2 are published",
        f"3 images of {SYNSETS[4]}, 2 are published",
    ]


def test_an_empty_or_unknown_folder_is_refused(imagenet: Path, tmp_path: Path):
    (imagenet / "n99999999").mkdir()
    assert f"{imagenet / 'n99999999'} is none of its 1000 class folders" in refused(tmp_path)
    (imagenet / "n99999999").rmdir()
    for image in (imagenet / SYNSETS[9]).iterdir():
        image.unlink()
    assert f"no image in {imagenet / SYNSETS[9]}" in refused(tmp_path)


def test_a_truncated_image_is_named(imagenet: Path, tmp_path: Path):
    broken = imagenet / SYNSETS[0] / "1.JPEG"
    broken.write_bytes(broken.read_bytes()[:-40])
    dataset = ImageNet("", tmp_path)
    with pytest.raises(UserError, match="not a readable image") as error:
        dataset.open(0)
    assert str(broken) in str(error.value)
    assert [str(broken) in problem for problem in dataset.problems()] == [True]


def test_unsorted_and_missing_folders(tmp_path: Path):
    assert "no folder imagenet or ImageNet or ILSVRC2012" in refused(tmp_path)
    fill(tmp_path / "imagenet", ["val"], ["ILSVRC2012_val_00000001.JPEG"])
    assert "ILSVRC2012_val_00000001.JPEG lies in no class folder" in refused(tmp_path)


@pytest.mark.parametrize("below", ["", "val"])
def test_a_selection(below: str, tmp_path: Path):
    fill(tmp_path / "mine" / below, [SYNSETS[744], SYNSETS[2]], ["b.jpg", "a.png"])
    dataset = ImageNet(str(tmp_path / "mine"), None)
    assert [entry.label for entry in dataset.entries] == [2, 2, 744, 744]
    assert len(dataset.classes.names) == 1000
    assert dataset.name == f"imagenet:{tmp_path / 'mine'}"
    assert dataset.card()["revision"].startswith("selection ")
    assert dataset.entries[0].key == f"{SYNSETS[2]}/a.png"
    assert not dataset.expected_counts()
    relative = ImageNet("mine", tmp_path)
    assert relative.card() == dataset.card()
    assert relative.identity == dataset.identity
    assert "mine" not in dataset.identity
    assert relative.sample_id(3) == dataset.sample_id(3)
    fill(tmp_path / "mine" / below, ["cats"], ["a.jpg"])
    with pytest.raises(UserError, match="cats is none of its 1000 class folders"):
        ImageNet(str(tmp_path / "mine"), None)


def test_a_selection_that_is_none(tmp_path: Path):
    with pytest.raises(UserError, match="there is no folder nowhere"):
        ImageNet("nowhere", tmp_path)
    fill(tmp_path, ["cats", "dogs"], ["a.jpg"])
    with pytest.raises(UserError, match=r"no class folder as n01440764 in .*, found cats, dogs"):
        ImageNet(str(tmp_path), None)


def test_two_classes_may_share_a_name(tmp_path: Path):
    shared = [SYNSETS[i] for i, name in enumerate(IMAGENET_CLASSNAMES) if name == "missile"]
    fill(tmp_path / "mine", shared, ["a.jpg"])
    labels = [entry.label for entry in ImageNet(str(tmp_path / "mine"), None).entries]
    assert len(set(labels)) == 2


def test_real_photographs_as_a_selection():
    folder = Path(__file__).parents[3] / "shared" / "data" / "imagenet-nips2017"
    if not folder.is_dir():
        pytest.skip("only where ../shared is")
    dataset = ImageNet(str(folder), None)
    assert len(dataset.entries) == 1000
    assert len({entry.label for entry in dataset.entries}) == 430
    assert dataset.classes.names[dataset.entries[0].label] == "goldfish"
    assert not list(dataset.problems())


def test_a_reader_has_the_row_that_names_it():
    for row in (*facts.ROWS, cifar.CIFAR10, cifar.CIFAR10_C):
        assert row.load().spec is row
        assert row.folders[0] == row.name
        assert all((row.source, row.licence, row.citation))
        assert row.how_to_get is not None
        assert row.how_to_get.archives or row.how_to_get.steps


def test_only_clean_photographs_of_imagenets_kind_are_in_distribution():
    in_distribution = {
        name for name, item in registry().datasets.items() if item.spec.in_distribution
    }
    assert in_distribution == {"imagenet", "photos"}
