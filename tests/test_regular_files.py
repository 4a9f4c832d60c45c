"""Only regular files of bounded size are read."""

import os
from pathlib import Path

import pytest

from ttt_bench import UserError, file_hash, read_checkpoint, require_regular


def test_a_regular_file_within_the_bound_is_accepted(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    require_regular(tmp_path / "file", at_most=5)
    require_regular(tmp_path / "link", at_most=5)
    with pytest.raises(UserError, match=r"file: has 5 bytes, more than the 4"):
        require_regular(tmp_path / "file", at_most=4)


@pytest.fixture
def odd_files(tmp_path: Path) -> dict[str, Path]:
    """A pipe, a link to an endless device, a folder, a loop of links, and no file at all."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_bytes(b"")
    return {
        "is a named pipe": tmp_path / "pipe",
        "is a device": tmp_path / "endless",
        "is a folder": tmp_path / "folder",
        "symbolic links": tmp_path / "loop",
        "there is no such file": tmp_path / "plain" / "below",
        "File name too long": tmp_path / ("x" * 300),
        "not a file name": tmp_path / "a\0b",
    }


@pytest.mark.parametrize("read", [read_checkpoint, file_hash, lambda p: require_regular(p, 9)])
def test_anything_else_is_refused_at_once_in_one_line(odd_files: dict[str, Path], read):
    for reason, path in odd_files.items():
        with pytest.raises(UserError, match=reason) as refused:
            read(path)
        assert "\n" not in str(refused.value)


def test_a_checkpoint_larger_than_any_is_refused_before_it_is_read(tmp_path: Path):
    with (tmp_path / "huge.pth").open("wb") as file:
        file.truncate(1 << 40)
    for read in (read_checkpoint, file_hash):
        with pytest.raises(UserError, match=r"huge\.pth: has 1,099,511,627,776 bytes"):
            read(tmp_path / "huge.pth")
