"""Archives stay in their folder and within measure: what is refused, and what it leaves."""

import gzip
import io
import shutil
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.test_download import everything, tar_of, tar_with, zip_of
from ttt_bench import Archive
from ttt_bench.datasets.acquire import unpack as unpacking
from ttt_bench.datasets.acquire.unpack import RefusedArchiveError, unpack


def pax(name: str) -> bytes:
    """A tar whose extended header gives a name that plain ones cannot hold."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("images/1.jpg")
        member.pax_headers = {"path": name}
        archive.addfile(member)
    return buffer.getvalue()


def sparse_tar() -> bytes:
    """A file of half a terabyte in 10 kB, as GNU tar stores holes."""
    member = tarfile.TarInfo("images/1.jpg")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:398] = b"%011o\0" % 0
    header[398:410] = b"%011o\0" % 0
    header[483:495] = b"%011o\0" % ((8 << 30) - 1)
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(10240 - 512)


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/1.jpg", bytes(2_000_000))
    return buffer.getvalue()


def zip_with_a_name_of_no_encoding() -> bytes:
    """A zip that says its names are UTF-8, and one is not."""
    return zip_of({"images/\u00e9.jpg": b"1"}).replace("\u00e9".encode(), b"\xff\xfe")


def tar_with_a_long_name(size: int) -> bytes:
    """A compressed tar of one file whose name takes so many bytes, all of them the same."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, size
    file = tarfile.TarInfo("images/1.jpg")
    return gzip.compress(header.tobuf() + b"a" * size + file.tobuf() + bytes(1024))


def sparse_tar_of_many_parts(blocks: int) -> bytes:
    """A compressed tar of one file whose list of parts goes on in so many further blocks."""
    member = tarfile.TarInfo("images/1.jpg")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    part = b"%011o\0" % 0
    header[386:482] = part * 8
    header[482] = 1
    header[483:495] = part
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    further = part * 42 + b"\1" + bytes(7)
    return gzip.compress(bytes(header) + further * blocks)


def lying_zip() -> bytes:
    """A zip that says one of its files is small, and it is not."""
    honest = bytearray(zip_bomb())
    for signature, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        place = honest.index(signature) + at
        honest[place : place + 4] = struct.pack("<I", 10)
    return bytes(honest)


HARMFUL = {
    "tar bomb": tar_of({"images/1.jpg": bytes(2_000_000)}),
    "tar of many": tar_of({f"images/{i}.jpg": bytes(300_000) for i in range(5)}),
    "tar with a hole": sparse_tar(),
    "zip bomb": zip_bomb(),
    "zip that lies": lying_zip(),
    "tar name with NUL": pax("images/a\0b"),
    "tar name with a new line": pax("images/a\nb"),
    "tar name with an escape": pax("images/\x1b[2J"),
    "tar backslash": pax("images\\..\\..\\evil"),
    "tar drive": pax("C:/evil"),
    "tar drive of its own folder": pax("C:evil"),
    "tar network path": pax("//server/share/evil"),
    "tar up by extended header": pax("images/../../evil"),
    "tar link by absolute path": tar_with(tarfile.LNKTYPE, "images/out", "/etc/passwd"),
    "tar block device": tar_with(tarfile.BLKTYPE, "images/disk"),
    "tar hard link to nothing": tar_with(tarfile.LNKTYPE, "images/two", "images/none"),
    "tar hard link to itself": tar_with(tarfile.LNKTYPE, "images/two", "images/two"),
    "tar header of 64 MB": tar_with_a_long_name(64 << 20),
    "tar with a list of parts without end": sparse_tar_of_many_parts(100_000),
    "zip name of no encoding": zip_with_a_name_of_no_encoding(),
    "zip drive": zip_of({"C:/evil": b"!"}),
    "zip escape": zip_of({"images/\x1b[2J": b"!"}),
    "zip network path": zip_of({"//server/evil": b"!"}),
}


@pytest.fixture(autouse=True)
def small_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bombs of a megabyte instead of a hundred."""
    monkeypatch.setattr(unpacking, "SMALL", 1_000_000)


@pytest.mark.parametrize("content", HARMFUL.values(), ids=HARMFUL)
def test_harmful_archives_are_refused_and_leave_nothing(content: bytes, tmp_path: Path):
    (tmp_path / "file").write_bytes(content)
    archive = Archive(url="", hash="", size=0)
    with pytest.raises(RefusedArchiveError) as refused:
        unpack(tmp_path / "file", archive, tmp_path / "deep" / "root")
    assert str(refused.value).isprintable()
    assert [name for name in everything(tmp_path) if name not in ("file", "deep")] == []


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(unpacking, "MOST_MEMBERS", 9)
    for packed in (tar_of, zip_of):
        for count, passes in ((9, True), (10, False)):
            (tmp_path / "file").write_bytes(packed({f"{i}.jpg": b"" for i in range(count)}))
            root = tmp_path / f"{packed.__name__}{count}"
            if passes:
                unpack(tmp_path / "file", Archive(url="", hash="", size=0), root)
                assert len(everything(root)) == 9
            else:
                with pytest.raises(RefusedArchiveError, match="9 files"):
                    unpack(tmp_path / "file", Archive(url="", hash="", size=0), root)
                assert not root.exists()


def test_the_refusal_of_a_zip_bomb_comes_before_it_is_unpacked(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(zipfile.ZipFile, "extract", lambda *a: pytest.fail("unpacked"))
    (tmp_path / "file").write_bytes(HARMFUL["zip bomb"])
    with pytest.raises(RefusedArchiveError, match="unpacks to more than"):
        unpack(tmp_path / "file", Archive(url="", hash="", size=0), tmp_path / "root")


def test_many_headers_take_no_memory(tmp_path: Path):
    """Millions of empty files in a small archive: refused by what they unpack to, not all kept."""
    block = tarfile.TarInfo("images/1.jpg").tobuf()
    (tmp_path / "file").write_bytes(gzip.compress(block * 100_000))
    tracemalloc.start()
    with pytest.raises(RefusedArchiveError, match="unpacks to more than"):
        unpack(tmp_path / "file", Archive(url="", hash="", size=0), tmp_path / "root")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_every_flipped_bit_of_a_compressed_tar_is_found(mode: str, tmp_path: Path):
    """A flip may leave the content as it was, or in a part of a header that carries nothing."""
    rng = np.random.default_rng(0)
    files = {f"images/{i}.jpg": rng.integers(0, 256, 900, np.uint8).tobytes() for i in range(20)}
    sound = tar_of(files, mode)
    accepted = 0
    for number, position in enumerate(np.linspace(10, len(sound) - 1, 99).astype(int)):
        content = bytearray(sound)
        content[position] ^= 1 << number % 8
        (tmp_path / "file").write_bytes(content)
        try:
            unpack(tmp_path / "file", Archive(url="", hash="", size=0), tmp_path / "root")
        except RefusedArchiveError:
            assert not (tmp_path / "root").exists()
            continue
        accepted += 1
        for name, expected in files.items():
            assert (tmp_path / "root" / name).read_bytes() == expected
        shutil.rmtree(tmp_path / "root")
    assert accepted <= 1


@pytest.mark.parametrize("position", [512, 512 + 124])
def test_a_damaged_header_in_the_middle_is_found(position: int, tmp_path: Path):
    content = bytearray(tar_of({"images/1.jpg": b"", "images/2.jpg": b"2"}, "w"))
    content[position] ^= 1
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(RefusedArchiveError, match="a header in it is damaged"):
        unpack(tmp_path / "file", Archive(url="", hash="", size=0), tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_hard_link_to_a_file_before_it_is_unpacked(tmp_path: Path):
    (tmp_path / "file").write_bytes(tar_with(tarfile.LNKTYPE, "images/two", "images/1.jpg"))
    unpack(tmp_path / "file", Archive(url="", hash="", size=0), tmp_path / "root")
    assert everything(tmp_path / "root") == ["images", "images/1.jpg", "images/two"]
