"""Archives stay in their folder and within measure: what is refused, and what it leaves."""

import io
import struct
import tarfile
import zipfile
from pathlib import Path

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
