"""ImageNet's sets in the layouts of the hub's copies are those sets, labels by WordNet id."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import datasets
import pytest
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from tests.datasets.drawn_images import draw, write_folder, write_shard
from ttt_bench.datasets.hugging_face import HuggingFaceImages
from ttt_bench.datasets.imagenet import ImageNet, ImageNetA, ImageNetR, class_indices, synsets
from ttt_bench.datasets.imagenet_copies import find_copy, match_classes
from ttt_bench.datasets.webdataset import WebDataset

ALL = tuple(range(1000))
A = class_indices("imagenet_a_indices.txt")
WORDS = dict(
    csv.reader(
        (files("timm") / "data" / "_info" / "imagenet_synset_to_lemma.txt")
        .read_text()
        .splitlines(),
        delimiter="\t",
    )
)
LONG_NAMES = [WORDS[synset] for synset in synsets()]
# `ClassLabel` refuses a name that comes twice.
TOLD_APART = [
    name if LONG_NAMES.index(name) == place else f"{name}2" for place, name in enumerate(LONG_NAMES)
]


@pytest.fixture(scope="module")
def published() -> dict[str, bytes]:
    """Return an image file for each class of ImageNet-A, under the names that it was published."""
    return {
        f"{synsets()[index]}/0.{place:06}_drawn _ drawn_0.5.jpg": draw(place)
        for place, index in enumerate(A)
    }


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch):
    """Pretend that ImageNet-A has one image of each class."""
    datasets.disable_progress_bars()
    monkeypatch.setattr(ImageNetA, "spec", replace(ImageNetA.spec, total=200))


@pytest.fixture
def folder(published: dict[str, bytes], tmp_path: Path) -> ImageNetA:
    write_folder(tmp_path / "imagenet-a", published)
    return ImageNetA("", tmp_path)


def save(folder: Path, published: Mapping[str, bytes], label: Any, values: Sequence[Any]) -> Path:
    """Write a table of the images, last first, as `save_to_disk` does."""
    images = [{"bytes": image, "path": Path(name).name} for name, image in published.items()]
    columns = {"image": images[::-1], "label": list(values)[::-1]}
    features = datasets.Features({"image": datasets.Image(), "label": label})
    datasets.Dataset.from_dict(columns, features).save_to_disk(folder)
    return folder


NAMINGS: dict[str, Callable[[int], str]] = {
    "WordNet ids": lambda index: synsets()[index],
    "the synset's words": lambda index: LONG_NAMES[index],
    "the first word": lambda index: LONG_NAMES[index].partition(",")[0].replace(" ", "_"),
    "CLIP's names": lambda index: IMAGENET_CLASSNAMES[index],
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_copy_stands_in_the_column_of_the_folder(naming: str, folder, published, tmp_path: Path):
    names = [NAMINGS[naming](index) for index in A]
    # A copy's own order of the classes, here the alphabetical one.
    order = sorted(names)
    label = datasets.ClassLabel(names=order)
    path = save(tmp_path / "hf", published, label, [order.index(name) for name in names])
    copy = HuggingFaceImages(str(path), None)
    assert copy.entries == folder.entries
    assert copy.classes == folder.classes
    assert (copy.identity, copy.namespace) == ("imagenet-a", folder.namespace)
    assert copy.card() == folder.card()
    assert [copy.sample_id(i) for i in range(200)] == [folder.sample_id(i) for i in range(200)]
    assert [copy.encoded(i) for i in range(200)] == [folder.encoded(i) for i in range(200)]
    assert (copy.read_from, folder.read_from) == ("hf", "")


def test_words_for_labels_and_shards_are_the_same_set(folder, published, tmp_path: Path):
    ids = [synsets()[index] for index in A]
    path = save(tmp_path / "hf", published, datasets.Value("string"), ids)
    copy = HuggingFaceImages(f"{path},label=label", None)
    assert (copy.entries, copy.card()) == (folder.entries, folder.card())
    samples = {
        f"s{number:07}": {
            "jpg": image,
            "json": {"label": A[number], "filename": Path(name).name},
        }
        for number, (name, image) in enumerate(published.items())
    }
    write_shard(tmp_path / "wds" / "0.tar", samples)
    # Positions among the 1000, as some copies have them.
    (tmp_path / "wds" / "classnames.txt").write_text("\n".join(synsets()))
    shards = WebDataset(str(tmp_path / "wds"), None)
    assert (shards.entries, shards.card()) == (folder.entries, folder.card())
    assert shards.classes == folder.classes


def test_a_copy_without_file_names_says_that_it_is_one(folder, published, tmp_path: Path):
    samples = {
        f"s{number:07}": {"jpg": image, "cls": str(number)}
        for number, image in enumerate(published.values())
    }
    write_shard(tmp_path / "wds" / "test" / "0.tar", samples)
    names = "\n".join(IMAGENET_CLASSNAMES[index] for index in A)
    (tmp_path / "wds" / "classnames.txt").write_text(names)
    copy = WebDataset(str(tmp_path / "wds" / "test" / "0.tar"), None)
    assert copy.classes == folder.classes
    assert [entry.label for entry in copy.entries] == [entry.label for entry in folder.entries]
    assert copy.identity == "imagenet-a"
    assert copy.card()["revision"].startswith("copy ")
    assert copy.sample_id(0) != folder.sample_id(0)


def test_images_that_were_saved_again_are_another_revision(folder, published, tmp_path: Path):
    smaller = {name: draw(number + 1) for number, name in enumerate(published)}
    label = datasets.ClassLabel(names=[synsets()[index] for index in A])
    copy = HuggingFaceImages(str(save(tmp_path / "hf", smaller, label, range(200))), None)
    assert copy.identity == "imagenet-a"
    assert copy.entries == folder.entries
    assert copy.card()["revision"] != folder.card()["revision"]


def test_the_hubs_names_of_all_classes_lead_to_their_positions():
    # The two cranes and the two missiles share a name; their order tells them apart.
    for names in (LONG_NAMES, TOLD_APART, list(IMAGENET_CLASSNAMES), list(synsets())):
        assert match_classes(names, ALL) == list(ALL)
        assert match_classes(names[:-1], ALL) is None
        assert match_classes([*names[:-1], "sourdough"], ALL) is None
    assert match_classes(list(reversed(synsets())), ALL) == list(reversed(ALL))


def test_validation_images_with_the_id_in_their_name_are_imagenets(monkeypatch):
    monkeypatch.setattr(ImageNet, "spec", replace(ImageNet.spec, total=1000, per_class=1))
    copy = find_copy(LONG_NAMES, ALL)
    assert copy is not None
    assert copy.name == "imagenet"
    plain = [f"ILSVRC2012_val_{number:08}.JPEG" for number in ALL]
    with_id = [f"val/ILSVRC2012_val_{n:08}_{synsets()[n]}.JPEG" for n in ALL]
    assert copy.keys(ALL, with_id) == copy.keys(ALL, plain)
    assert copy.keys(ALL, plain)[7] == "n01514668/ILSVRC2012_val_00000007.JPEG"
    assert copy.keys(ALL, ["s0000000.jpg"] * 1000) is None
    # Two of a class and none of another is not the published set.
    assert find_copy(LONG_NAMES, [1, *ALL[1:]]) is None


def test_other_data_with_wordnet_ids_has_imagenets_classes(published, tmp_path: Path):
    some = dict(list(published.items())[:3])
    ids = [name.partition("/")[0] for name in some]
    folder = save(tmp_path / "hf", some, datasets.ClassLabel(names=ids), range(3))
    dataset = HuggingFaceImages(str(folder), None)
    assert dataset.classes.imagenet_indices == A[:3]
    assert dataset.classes.names == tuple(IMAGENET_CLASSNAMES[index] for index in A[:3])
    assert dataset.identity.startswith("hf:")


def test_sets_of_as_many_classes_are_not_confused(monkeypatch):
    monkeypatch.setattr(ImageNetR, "spec", replace(ImageNetR.spec, total=200))
    indices = class_indices(ImageNetR.spec.class_list)
    copy = find_copy([synsets()[index] for index in indices], range(200))
    assert copy is not None
    assert copy.name == "imagenet-r"
    assert copy.label(5) == 5
