"""Damaged images and archives: opened as what they are, or refused in one line."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.values import outcome
from tests.test_download import everything, tar_of, tar_with, zip_of
from ttt_bench import Archive, UserError, open_image
from ttt_bench.api.on_disk import MOST_PIXELS
from ttt_bench.datasets.acquire.unpack import unpack


def image(kind: str, **options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (9, 11, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind, **options)
    return file.getvalue()


IMAGES = [
    image("PNG"), image("JPEG"), image("JPEG", progressive=True), image("GIF"), image("TIFF"),
    image("TIFF", compression="tiff_lzw"), image("WEBP"), image("WEBP", lossless=True),
    image("BMP"), image("PPM"),
]  # fmt: skip
CONTENT = {"i/1.jpg": b"abc" * 40, "i/b/2.jpg": b"x"}
ARCHIVES = [
    tar_of(CONTENT), tar_of(CONTENT, "w"), tar_of(CONTENT, "w:bz2"), tar_of(CONTENT, "w:xz"),
    zip_of(CONTENT), tar_with(tarfile.LNKTYPE, "images/2.jpg", "images/1.jpg"),
    tar_of({"i/" + "a" * 200: b""}),
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, sound: list[bytes]) -> bytes:
    """One of the files with some bytes changed, most of them in its header, or cut, or anything."""
    content = bytearray(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, min(len(content), 200) - 1) | st.integers(0, len(content) - 1))
        content[place] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    if draw(st.booleans()):
        return bytes(content)
    end = draw(st.integers(0, len(content)))
    return bytes(content[:end]) + draw(st.binary(max_size=20))


@settings(max_examples=300)
@given(damaged(IMAGES))
@pytest.mark.filterwarnings("ignore")
def test_any_image(tmp_path: Path, content: bytes):
    file = tmp_path / "x.png"
    file.write_bytes(content)
    opened = outcome(lambda: open_image(file))
    if isinstance(opened, UserError):
        assert str(opened).startswith(str(file))
        assert "\n" not in str(opened)
        return
    assert opened.mode == "RGB"
    assert opened.width * opened.height <= MOST_PIXELS
    opened.tobytes()


@settings(max_examples=150)
@given(damaged(ARCHIVES))
def test_any_archive(tmp_path: Path, content: bytes):
    """Either all of it is in its folder, or nothing is anywhere."""
    root = tmp_path / "place" / "root"
    shutil.rmtree(tmp_path / "place", ignore_errors=True)
    (tmp_path / "file").write_bytes(content)
    archive = Archive(url="", hash="", size=0)
    refused = outcome(lambda: unpack(tmp_path / "file", archive, root))
    assert root.exists() == (refused is None)
    assert "\n" not in str(refused)
    assert {name.split("/")[0] for name in everything(tmp_path)} <= {"file", "place"}
    if (tmp_path / "place").exists():
        assert {path.name for path in (tmp_path / "place").iterdir()} <= {"root"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
