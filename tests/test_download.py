"""Archives are fetched whole or not at all, continued, checked, and unpacked where they belong."""

import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from tests.http_server import Site, serve
from ttt_bench import Archive, DatasetSpec, HowToGet, UserError
from ttt_bench.datasets.acquire.download import download
from ttt_bench.datasets.acquire.fetch import fetch
from ttt_bench.datasets.acquire.unpack import unpack

CONTENT = bytes(range(256)) * 4000


def silent(have: int, total: int | None) -> None:
    pass


def dataset_of(name: str, *archives: Archive, gigabytes: float) -> DatasetSpec:
    return DatasetSpec(
        name=name, summary="", code="", source="", licence="", folders=(name, name.capitalize()),
        how_to_get=HowToGet(archives=archives, gigabytes=gigabytes),
    )  # fmt: skip


def display(title: str) -> nullcontext[Callable[[int, int | None], None]]:
    return nullcontext(silent)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as site:
        yield site


def archive_of(site: Site, name: str, content: bytes, **fields: str) -> Archive:
    site.files[f"/{name}"] = content
    digest = f"md5:{hashlib.md5(content).hexdigest()}"
    return Archive(url=f"{site.url}/{name}", hash=digest, size=len(content), **fields)


def tar_of(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tar_with(kind: bytes, name: str, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        good = tarfile.TarInfo("images/1.jpg")
        archive.addfile(good)
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        archive.addfile(member)
    return buffer.getvalue()


def zip_of(members: dict[str, bytes], mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_interrupted_download_continues(site: Site, tmp_path: Path):
    archive = archive_of(site, "a.bin", CONTENT)
    site.cut = 300_000
    with pytest.raises(UserError, match="continues after 300000 bytes"):
        fetch(archive, tmp_path / "a.bin", silent)
    assert everything(tmp_path) == ["a.bin.part"]
    with pytest.raises(UserError, match="continues after 600000 bytes"):
        fetch(archive, tmp_path / "a.bin", silent)
    site.cut = None
    told: list[tuple[int, int | None]] = []
    fetch(archive, tmp_path / "a.bin", lambda have, total: told.append((have, total)))
    assert [asked for _, asked in site.asked] == [None, "bytes=300000-", "bytes=600000-"]
    assert told[0] == (600_000, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert everything(tmp_path) == ["a.bin"]
    fetch(archive, tmp_path / "a.bin", silent)
    assert len(site.asked) == 3


def test_server_that_cannot_continue_starts_again(site: Site, tmp_path: Path):
    archive = archive_of(site, "a.bin", CONTENT)
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    site.continues = False
    fetch(archive, tmp_path / "a.bin", silent)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"of another file"])
def test_nothing_left_to_fetch(site: Site, tmp_path: Path, extra: bytes):
    """Stopped between the last byte and the check, or with what an older file has left."""
    archive = archive_of(site, "a.bin", CONTENT)
    (tmp_path / "a.bin.part").write_bytes(CONTENT + extra)
    fetch(archive, tmp_path / "a.bin", silent)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_without_a_hash_nothing_is_continued(site: Site, tmp_path: Path):
    archive_of(site, "a.bin", CONTENT)
    (tmp_path / "a.bin.part").write_bytes(b"of another file")
    fetch(Archive(url=f"{site.url}/a.bin", hash="", size=0), tmp_path / "a.bin", silent)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_wrong_hash_is_refused_and_removed(site: Site, tmp_path: Path):
    archive = archive_of(site, "a.bin", CONTENT)
    site.files["/a.bin"] = CONTENT[:-1] + b"?"
    with pytest.raises(UserError, match="does not match the known hash") as refused:
        fetch(archive, tmp_path / "a.bin", silent)
    assert "\n" not in str(refused.value)
    assert everything(tmp_path) == []


def test_server_without_the_file(site: Site, tmp_path: Path):
    archive = Archive(url=f"{site.url}/none.zip", hash="", size=0)
    with pytest.raises(UserError, match=r"none\.zip: the server answers 404"):
        fetch(archive, tmp_path / "a.bin", silent)


def test_server_down(tmp_path: Path):
    with serve() as site:
        archive = archive_of(site, "a.bin", CONTENT)
    with pytest.raises(UserError, match=r"a\.bin: not fetched \(.*refused"):
        fetch(archive, tmp_path / "a.bin", silent)
    assert everything(tmp_path) == []


IMAGES = {"set/images/cat/1.jpg": b"1", "set/images/dog/2.jpg": b"2", "set/readme": b"-"}


@pytest.mark.parametrize("packed", [tar_of(IMAGES), tar_of(IMAGES, "w"), zip_of(IMAGES)])
def test_only_the_inner_folder_is_unpacked(tmp_path: Path, packed: bytes):
    (tmp_path / "file").write_bytes(packed)
    archive = Archive(url="", hash="", size=0, folder="pictures", inner="set/images")
    unpack(tmp_path / "file", archive, tmp_path / "root")
    assert everything(tmp_path / "root") == [
        "pictures", "pictures/cat", "pictures/cat/1.jpg", "pictures/dog", "pictures/dog/2.jpg",
    ]  # fmt: skip


def test_unpacking_beside_what_is_there(tmp_path: Path):
    (tmp_path / "file").write_bytes(tar_of(IMAGES))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "split.json").write_text("{}")
    unpack(tmp_path / "file", Archive(url="", hash="", size=0), tmp_path / "root")
    before = everything(tmp_path / "root")
    assert before[0] == "set"
    assert before[-1] == "split.json"
    with pytest.raises(UserError, match="set: exists already"):
        unpack(tmp_path / "file", Archive(url="", hash="", size=0), tmp_path / "root")
    assert everything(tmp_path / "root") == before


HARMFUL = {
    "tar up": tar_of({"images/1.jpg": b"", "images/../../evil": b"!"}),
    "tar absolute": tar_of({"images/1.jpg": b"", "/evil": b"!"}),
    "tar symbolic link": tar_with(tarfile.SYMTYPE, "images/out", "../../evil"),
    "tar symbolic link within": tar_with(tarfile.SYMTYPE, "images/two", "1.jpg"),
    "tar hard link": tar_with(tarfile.LNKTYPE, "images/out", "../../evil"),
    "tar device": tar_with(tarfile.CHRTYPE, "images/null"),
    "tar pipe": tar_with(tarfile.FIFOTYPE, "images/pipe"),
    "zip up": zip_of({"images/1.jpg": b"", "images/../../evil": b"!"}),
    "zip absolute": zip_of({"images/1.jpg": b"", "/evil": b"!"}),
    "zip backslash": zip_of({"images/1.jpg": b"", "..\\evil": b"!"}),
    "zip symbolic link": zip_of({"images/out": b"../../evil"}, stat.S_IFLNK | 0o777),
    "truncated tar.gz": tar_of({"images/1.jpg": CONTENT})[:500],
    "truncated zip": zip_of({"images/1.jpg": CONTENT})[:500],
    "damaged tar.gz": tar_of({"images/1.jpg": CONTENT})[:500] + b"?" * 500,
    "a page of text": b"<html>log in</html>",
    "another folder": tar_of({"pictures/1.jpg": b""}),
}


@pytest.mark.parametrize("content", HARMFUL.values(), ids=HARMFUL)
def test_harmful_archive_leaves_nothing(site: Site, tmp_path: Path, content: bytes):
    archive = archive_of(site, "a.tar.gz", content, folder="images", inner="images")
    photos = dataset_of("photos", archive, gigabytes=0.0)
    with pytest.raises(UserError) as refused:
        download("photos", photos, tmp_path / "deep" / "data", display)
    assert "a.tar.gz" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert everything(tmp_path) == ["deep", "deep/data"]


@pytest.fixture
def pictures(site: Site) -> DatasetSpec:
    """Two archives that go into the dataset's folder itself, and one into a folder of its own."""
    return dataset_of(
        "pictures",
        archive_of(site, "noise.tar", tar_of({"snow/1.jpg": b"1"}, "w")),
        archive_of(site, "blur.tar", tar_of({"fog/1.jpg": b"1"}, "w")),
        archive_of(site, "clean.zip", zip_of({"x/1.jpg": b"1"}), folder="clean", inner="x"),
        gigabytes=0.001,
    )


def test_second_download_does_nothing(site: Site, pictures: DatasetSpec, tmp_path: Path):
    root, fetched = download("pictures", pictures, tmp_path, display)
    assert (root, fetched) == (tmp_path / "pictures", 3)
    files = [path for path in everything(root) if path.endswith("jpg")]
    assert files == ["clean/1.jpg", "fog/1.jpg", "snow/1.jpg"]
    assert not (tmp_path / ".downloads").exists()
    assert download("pictures", pictures, tmp_path, display) == (root, 0)
    assert len(site.asked) == 3


def test_download_continues_with_the_archive_that_failed(
    site: Site, pictures: DatasetSpec, tmp_path: Path
):
    blur = site.files.pop("/blur.tar")
    with pytest.raises(UserError, match=r"blur\.tar"):
        download("pictures", pictures, tmp_path, display)
    site.files["/blur.tar"] = blur
    assert download("pictures", pictures, tmp_path, display)[1] == 2
    assert [path for path, _ in site.asked].count("/noise.tar") == 1


def test_download_into_a_linked_folder_that_is_there(pictures: DatasetSpec, tmp_path: Path):
    (tmp_path / "large disk" / "set").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "Pictures").symlink_to(tmp_path / "large disk" / "set")
    download("pictures", pictures, tmp_path / "data", display)
    assert (tmp_path / "large disk" / "set" / "snow" / "1.jpg").exists()
    assert everything(tmp_path / "data") == ["Pictures"]


def test_too_small_a_disk(site: Site, pictures: DatasetSpec, tmp_path: Path):
    assert pictures.how_to_get is not None
    huge = replace(pictures, how_to_get=replace(pictures.how_to_get, gigabytes=1e9))
    with pytest.raises(UserError, match=r"needs about 1000000000\.0 GB, .* free"):
        download("pictures", huge, tmp_path, display)
    assert site.asked == []


def test_a_place_that_is_a_file(pictures: DatasetSpec, tmp_path: Path):
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match="cannot be put into"):
        download("pictures", pictures, tmp_path / "data", display)
