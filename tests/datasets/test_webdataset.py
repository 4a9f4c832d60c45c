"""Tar shards in the WebDataset format: found, named, read one by one, and refused when damaged."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.drawn_images import CLASSES, draw, photographs, write_folder, write_shard
from ttt_bench import UserError
from ttt_bench.datasets import tar_index
from ttt_bench.datasets.image_folder import ImageFolder
from ttt_bench.datasets.webdataset import WebDataset
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.loading import Loaded
from ttt_bench.runner.opening import open_run


def samples(label: str = "cls") -> dict[str, dict[str, object]]:
    """Return what shards hold for the drawn photographs: `cls`, or `json` with a word."""
    found: dict[str, dict[str, object]] = {}
    for path, image in photographs().items():
        name = path.partition("/")[0]
        fields = {"cls": str(CLASSES.index(name)), "json": {"label": name, "filename": path}}
        found[path.removesuffix(".jpg")] = {"jpg": image, label: fields[label]}
    return found


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Return a folder of two shards with class names beside it."""
    whole = list(samples().items())
    write_shard(tmp_path / "wds" / "test" / "000.tar", dict(whole[:5]))
    write_shard(tmp_path / "wds" / "test" / "001.tar", dict(whole[5:]))
    (tmp_path / "wds" / "classnames.txt").write_text("a cat\na dog\na hen\n\n")
    return tmp_path / "wds" / "test"


def refused(argument: object) -> str:
    with pytest.raises(UserError) as error:
        WebDataset(str(argument), None)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_way_to_name_shards_gives_the_same_dataset(shards: Path):
    first = WebDataset(str(shards / "{000..001}.tar"), None)
    assert first.classes.names == ("a cat", "a dog", "a hen")
    assert [entry.label for entry in first.entries] == [0] * 3 + [1] * 3 + [2] * 3
    assert first.entries[3].key == "tabby_dog/0"
    for name in ("*.tar", "", "00[01].tar"):
        other = WebDataset(str(shards / name), None)
        assert (other.identity, other.entries) == (first.identity, first.entries)
    below = WebDataset("test/*.tar", shards.parent)
    assert below.identity == first.identity
    assert below.card() == first.card()
    assert str(shards) not in first.identity


def test_images_are_decoded_as_those_of_a_folder(shards: Path, tmp_path: Path):
    packed = WebDataset(str(shards), None)
    write_folder(tmp_path / "photos", photographs())
    folder = ImageFolder(str(tmp_path / "photos"), None)
    by_key = {entry.key: index for index, entry in enumerate(folder.entries)}
    for index, entry in enumerate(packed.entries):
        there = by_key[f"{entry.key}.jpg"]
        assert packed.encoded(index) == folder.encoded(there)
        assert np.array_equal(packed.open(index), folder.open(there))


def test_the_content_decides_the_name_not_the_shards(shards: Path, tmp_path: Path):
    first = WebDataset(str(shards), None)
    whole = dict(reversed(list(samples().items())))
    write_shard(tmp_path / "one.tar", whole)
    assert "labels are numbers without names" in refused(tmp_path / "one.tar")
    (tmp_path / "classnames.txt").write_text("a cat\na dog\na hen\n")
    one = WebDataset(str(tmp_path / "one.tar"), None)
    assert (one.identity, one.entries) == (first.identity, first.entries)
    assert one.sample_id(4) == first.sample_id(4)
    whole["hen/0"] = {"jpg": draw(99), "cls": "2"}
    write_shard(tmp_path / "one.tar", whole)
    changed = WebDataset(str(tmp_path / "one.tar"), None)
    assert changed.identity != first.identity
    assert changed.sample_id(4) == first.sample_id(4)


def test_words_are_labels_too_and_a_file_names_them(tmp_path: Path):
    shard = write_shard(tmp_path / "words.tar", samples("json"))
    dataset = WebDataset(str(shard), None)
    assert dataset.classes.names == ("cat", "hen", "tabby dog")
    (tmp_path / "names.txt").write_text("hen a hen\ncat a cat\ntabby_dog a dog\n")
    named = WebDataset(f"{shard},classes=names.txt", tmp_path)
    assert named.classes.names == ("a cat", "a hen", "a dog")
    assert named.identity == dataset.identity
    assert named.entries == dataset.entries


def test_the_row_of_a_card_says_what_the_images_were_read_from(shards: Path, tmp_path: Path):
    name = f"webdataset:{shards}/{{000..001}}.tar"
    config = RunConfig(
        method="clip-zero-shot", dataset=name, backbone="tiny-clip", device="cpu", output=tmp_path
    )
    opened = open_run(config, Loaded())
    dataset = WebDataset(str(shards), None)
    assert opened.card.method["read_from"] == "webdataset"
    assert opened.card.protocol["dataset"] == dataset.identity
    assert opened.card.protocol["n"] == 9


def test_the_index_reads_headers_and_no_images(tmp_path: Path):
    large = {f"{n:03}": {"png": bytes(1 << 18), "cls": "0"} for n in range(4)}
    shard = write_shard(tmp_path / "large.tar", large)

    class Counting(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1) -> bytes:
            content = super().read(size)
            self.total += len(content)
            return content

    file = Counting(shard.read_bytes())
    members = tar_index._read_members(shard, file)
    assert len(members) == 8
    assert file.total < 1 << 15
    assert {len(member.read()) for member in members} == {1, 1 << 18}


def test_damaged_shards_are_refused_in_a_line(shards: Path, tmp_path: Path):
    whole = (shards / "000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:2100])
    assert "cut.tar: not a whole tar archive" in refused(tmp_path / "cut.tar")
    second = tar_index.read_index(shards / "000.tar")[2].offset - 512
    (tmp_path / "header.tar").write_bytes(whole[:second] + b"\xff" * 512 + whole[second + 512 :])
    assert "header.tar: not a whole tar archive" in refused(tmp_path / "header.tar")
    (tmp_path / "two.tar").write_bytes(whole + whole)
    assert "something follows its end at byte" in refused(tmp_path / "two.tar")
    (tmp_path / "no.tar").write_bytes(b"no archive" * 100)
    assert "no.tar: not a whole tar archive" in refused(tmp_path / "no.tar")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as archive:
        archive.add(shards / "000.tar", "x.tar")
    assert "is compressed (gzip)" in refused(tmp_path / "packed.tar")
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert "a.jpg is a link" in refused(tmp_path / "link.tar")


def test_a_shard_that_shrinks_under_a_run_is_named(shards: Path):
    dataset = WebDataset(str(shards), None)
    (shards / "001.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"001.tar: hen/2.jpg: cannot be read"):
        dataset.open(len(dataset.entries) - 1)


@pytest.mark.parametrize(
    ("shard", "wanted"),
    [
        ({"a": {"jpg": draw(0)}}, "key a in"),
        ({"a": {"jpg": draw(0), "json": {"size": 3}}}, "has no label"),
        ({"a": {"jpg": draw(0), "json": "{"}}, "its .json cannot be read"),
        ({"a": {"cls": "0"}}, "has 0 images among cls"),
        ({"a": {"jpg": draw(0), "png": draw(1, "png"), "cls": "0"}}, "has 2 images among"),
        ({"a": {"jpg": draw(0), "cls": "3"}}, "a label is 3, and there are 3 class names"),
        ({"a": {"jpg": draw(0), "cls": "-1"}}, "images without a label (label -1)"),
        ({}, "holds no images"),
    ],
)  # fmt: skip
def test_samples_that_lack_something_are_refused(shard, wanted: str, tmp_path: Path):
    (tmp_path / "classnames.txt").write_text("a\nb\nc\n")
    assert wanted in refused(write_shard(tmp_path / "x.tar", shard))


def test_duplicate_keys_are_refused(shards: Path, tmp_path: Path):
    write_shard(shards / "002.tar", {"cat/0": {"jpg": draw(0), "cls": "0"}})
    assert f"the key cat/0 is in {shards / '000.tar'} and in" in refused(shards)
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for _ in range(2):
            archive.add(shards / "000.tar", "a.jpg")
    assert "twice.tar holds a.jpg twice" in refused(tmp_path / "twice.tar")


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        ("nowhere/{000..001}.tar", "nowhere/000.tar: there is no such file"),
        ("nowhere/*.tar", "no shard of that name"),
        ("https://host/000.tar", "shards are read from disk"),
        ("x.tar,clases=y", "unknown option of webdataset 'clases'; did you mean classes?"),
        ("x.tar,classes=", "classes= has no value"),
        (",classes=y", "has no path"),
    ],
)
def test_bad_arguments_are_refused(argument: str, wanted: str):
    assert wanted in refused(argument)
