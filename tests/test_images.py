"""Image files: decoded in full range or refused by name, and only regular files are opened."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ttt_bench import UserError, open_image
from ttt_bench.api.on_disk import MOST_BYTES
from ttt_bench.datasets.image_folder import ImageFolder

LEVELS = np.arange(256, dtype=np.uint16).reshape(16, 16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_levels_of_16_bits_keep_their_upper_8(suffix: str, tmp_path: Path):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(LEVELS * 257).save(path)
    image = open_image(path)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.repeat(LEVELS[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("order", "zero_is_white"), [("<u2", False), ("<u2", True), (">u2", False)]
)
def test_both_kinds_of_grey_in_a_tiff(order: str, zero_is_white: bool, tmp_path: Path):
    image = Image.fromarray((LEVELS * 257).astype(order))
    image.save(tmp_path / "x.tif", tiffinfo={262: 0} if zero_is_white else {})
    expected = 255 - LEVELS if zero_is_white else LEVELS
    assert np.array_equal(np.asarray(open_image(tmp_path / "x.tif"))[..., 0], expected)


def test_grey_levels_of_16_bits_in_a_pgm(tmp_path: Path):
    header = b"P5\n16 16\n65535\n"
    (tmp_path / "x.pgm").write_bytes(header + (LEVELS * 257).astype(">u2").tobytes())
    assert np.array_equal(np.asarray(open_image(tmp_path / "x.pgm"))[..., 0], LEVELS)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_refused(kind: type, tmp_path: Path):
    path = tmp_path / "x.tif"
    Image.fromarray(LEVELS.astype(kind)).save(path)
    with pytest.raises(UserError, match="whose range is not known; save it with 8 or 16") as error:
        open_image(path)
    assert str(error.value).startswith(f"{path}: its pixels are")


def test_orientation_and_transparency_are_ignored(tmp_path: Path):
    """As torchvision's default loader does: `convert("RGB")` and nothing else."""
    pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(open_image(tmp_path / "x.png"), pixels[..., :3])


def test_warnings_of_pillow_stay_inside(tmp_path: Path, recwarn):
    image = Image.new("P", (4, 4))
    image.putpalette([9, 8, 7] * 4)
    image.save(tmp_path / "x.png", transparency=b"\0\1\2")
    warnings.simplefilter("always")
    with Image.open(tmp_path / "x.png") as plain:
        plain.convert("RGB")
    assert recwarn
    recwarn.clear()
    assert open_image(tmp_path / "x.png").getpixel((0, 0)) == (9, 8, 7)
    assert not recwarn


def test_gifs_in_a_folder_are_read(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    frames = [Image.new("RGB", (5, 5), color) for color in ((200, 0, 0), (0, 200, 0))]
    frames[0].save(tmp_path / "cat" / "x.gif", save_all=True, append_images=frames[1:])
    dataset = ImageFolder(str(tmp_path), None)
    assert [entry.key for entry in dataset.entries] == ["cat/x.gif"]
    assert dataset.open(0).getpixel((2, 2)) == (200, 0, 0)


def test_images_that_are_not_read_are_named(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (5, 5)).save(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "b.HEIC").write_bytes(b"")
    with pytest.raises(UserError, match=r"b.HEIC: images of the format heic are not read"):
        ImageFolder(str(tmp_path), None)


def test_only_regular_files_of_bounded_size_are_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name, kind in (("pipe", "a named pipe"), ("endless", "a device"), ("folder", "a folder")):
        with pytest.raises(UserError, match=f"{name}.png: is {kind}"):
            open_image(tmp_path / f"{name}.png")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(UserError, match=r"large\.png: has .* bytes, more than"):
        open_image(tmp_path / "large.png")
    with pytest.raises(UserError, match="there is no such file"):
        open_image(tmp_path / "none.png")
    with pytest.raises(UserError):
        open_image(tmp_path / "a\0b.png")
