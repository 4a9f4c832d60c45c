"""Weights, data and images that come from elsewhere run no code and fill no memory."""

import ast
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageFile, PngImagePlugin

from tests.test_bad_input import one_line
from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import MOST_PIXELS, open_image
from ttt_bench.backbones.weights_file import load_weights
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.datasets.image_folder import ImageFolder
from ttt_bench.datasets.imagenet import ImageNet
from ttt_bench.toolkit.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[1]

# --- Loading runs no code ---

NEVER = {
    "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval",
    "exec", "marshal.load", "marshal.loads", "shelve.open", "torch.jit.load", "os.system",
    "os.popen", "joblib.load", "torch.hub.load", "pandas.read_pickle",
}  # fmt: skip


def dangers(source: str) -> list[str]:
    """Calls in a source that can run what is in a file, by what they are called."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        # What was pickled in the same line came from nowhere else.
        own = bool(node.args) and ast.unparse(node.args[0]).startswith("pickle.dumps(")
        unsafe = (
            (name in NEVER and not own)
            or (name == "torch.load" and given.get("weights_only") != "True")
            or given.get("allow_pickle", "False") != "False"
            or given.get("shell", "False") != "False"
            or given.get("trust_remote_code", "False") != "False"
        )
        found += [name] if unsafe else []
    return found


def sources() -> Iterator[Path]:
    for folder in ("ttt_bench", "plugins", "audit", "tools", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if not {"build", "tests"} & set(path.relative_to(ROOT).parts):
                yield path


def test_no_source_loads_what_could_run():
    paths = list(sources())
    assert len(paths) > 100
    assert {str(path): found for path in paths if (found := dangers(path.read_text()))} == {}


@pytest.mark.parametrize(
    "planted",
    [
        "pickle.loads(data)", "torch.load(path)", "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)", "yaml.load(text)", "subprocess.run(line, shell=True)",
        "exec(code)",
    ],
)  # fmt: skip
def test_the_search_for_them_finds_one(planted: str):
    assert dangers(f"def f(path):\n    return {planted}\n")


def test_image_files_are_opened_in_one_place():
    """`open_image` is where their size is bounded; figures that we drew are in buffers.

    The embedded sheets have one size alone, which is looked at before they are decoded.
    """
    opening = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if "tools" not in path.parts and re.search(r"Image\.open\((?!buffer)", path.read_text())
    }
    assert opening == {"ttt_bench/api/on_disk.py", "ttt_bench/datasets/image_sheets.py"}


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


def pickled(path: Path, attack: Attack) -> None:
    path.write_bytes(pickle.dumps({"state_dict": {"weight": attack}}, protocol=2))


def saved(path: Path, attack: Attack) -> None:
    torch.save({"weight": torch.ones(3), "epoch": attack}, path)


def saved_as_of_old(path: Path, attack: Attack) -> None:
    torch.save({"state_dict": attack}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [pickled, saved, saved_as_of_old])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_weights_run_no_code(tmp_path: Path, write: Callable[..., None], name: str):
    file, hit = tmp_path / name, tmp_path / "hit"
    write(file, Attack(hit))
    for read in (read_checkpoint, lambda path: load_weights(torch.nn.Linear(1, 1), path)):
        with pytest.raises(UserError) as refused:
            read(file)
        assert "\n" not in str(refused.value)
        assert not hit.exists()
    # The attack is a real one: plain unpickling falls for it.
    if write is pickled:
        pickle.loads(file.read_bytes())
        assert hit.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--method", "source", "--backbone", "timm:resnet18", "--weights"),
        ("--method", "coop", "--set", "checkpoint="),
        ("--method", "ttt-mae", "--backbone", "mae:"),
    ],
)
def test_no_command_runs_code_in_weights(ttt, tmp_path: Path, arguments: tuple[str, ...]):
    saved(tmp_path / "w.pth", Attack(tmp_path / "hit"))
    *words, last = arguments
    words += [last, "w.pth"] if last == "--weights" else [f"{last}w.pth"]
    result = ttt("run", *words, "--dataset", "cifar10-c-mini", "--limit", 2, "--device", "cpu")
    one_line(result, "w.pth")
    assert not (tmp_path / "hit").exists()


def test_a_safetensors_header_that_lies(tmp_path: Path):
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(1, 1), "bias": torch.ones(1)}, file)
    whole = file.read_bytes()
    for damaged in (whole[:20], struct.pack("<Q", 1 << 60) + whole[8:], b"\xff" * 8 + whole[8:]):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="not readable as safetensors"):
            load_weights(torch.nn.Linear(1, 1), file)


# --- Images are bounded ---


def chunk(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))


def png(width: int, height: int, *more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *more, pixels, chunk(b"IEND", b"")])


def image_bytes(kind: str, size: tuple[int, int] = (16, 16), **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, kind, **options)
    return file.getvalue()


def jpeg(width: int, height: int) -> bytes:
    whole = image_bytes("JPEG")
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", height, width) + whole[at + 4 :]


def gif(width: int, height: int) -> bytes:
    whole = image_bytes("GIF")
    return whole[:6] + struct.pack("<HH", width, height) + whole[10:]


def gif_frame(width: int, height: int) -> bytes:
    """A small screen, and on it a frame that is not."""
    whole = image_bytes("GIF")
    at = whole.index(b"\x2c\0\0\0\0\x10\0\x10\0") + 5
    return whole[:at] + struct.pack("<HH", width, height) + whole[at + 4 :]


def tiff(width: int, height: int) -> bytes:
    whole = image_bytes("TIFF", (16, 17))
    for tag, old, new in ((256, 16, width), (257, 17, height)):
        entry = struct.pack("<HHII", tag, 4, 1, old)
        assert whole.count(entry) == 1
        whole = whole.replace(entry, struct.pack("<HHII", tag, 4, 1, new))
    return whole


def bmp(width: int, height: int) -> bytes:
    whole = image_bytes("BMP")
    return whole[:18] + struct.pack("<ii", width, height) + whole[26:]


def webp(width: int, height: int) -> bytes:
    extended = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + extended + image_bytes("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def ppm(width: int, height: int) -> bytes:
    return b"P6 %d %d 255\n" % (width, height) + bytes(100)


BOMBS = {maker.__name__: maker for maker in (png, jpeg, gif, gif_frame, tiff, bmp, webp, ppm)}
# Above the bound, where Pillow warns, and twice above, where it refuses.
SIDES = [(9_500, 9_500), (15_000, 15_000)]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("maker", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_its_pixels(maker, side, tmp_path: Path, monkeypatch):
    """The bound is checked on what the header says, and nothing is decoded."""
    loaded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: loaded.append(self.size))
    (tmp_path / "x.png").write_bytes(maker(*side))
    with pytest.raises(UserError) as refused:
        open_image(tmp_path / "x.png")
    assert str(MOST_PIXELS) in str(refused.value) or maker is webp
    assert "\n" not in str(refused.value)
    assert loaded == []


def test_the_bound_holds_where_pillow_is_told_to_pass_anything(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "x.png").write_bytes(png(9_500, 9_500))
    with pytest.raises(UserError, match="9500 x 9500 pixels"):
        open_image(tmp_path / "x.png")


def test_a_large_photograph_is_no_bomb(tmp_path: Path):
    Image.new("1", (8_000, 6_000)).save(tmp_path / "x.png")
    assert open_image(tmp_path / "x.png").size == (8_000, 6_000)


def test_bombs_in_the_text_of_a_png(tmp_path: Path):
    file = tmp_path / "x.png"
    text = zlib.compress(b"a" * (PngImagePlugin.MAX_TEXT_CHUNK * 50))
    assert len(text) < 100_000
    for bomb in (
        chunk(b"zTXt", b"Comment\0\0" + text),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + text),
        chunk(b"iCCP", b"profile\0\0" + text),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 1_000_000)) * 80,
    ):
        file.write_bytes(png(16, 16, bomb))
        with pytest.raises(UserError, match="not a readable image"):
            open_image(file)


KINDS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM")


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_and_garbled_images_are_refused(kind: str, tmp_path: Path):
    file = tmp_path / "x.png"
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    whole = buffer.getvalue()
    file.write_bytes(whole)
    assert open_image(file).size == (24, 24)
    for keep in (0, 1, 10, len(whole) // 2):
        for rest in (b"", b"\xff" * 50):
            file.write_bytes(whole[:keep] + rest)
            with pytest.raises(UserError, match="not a readable image"):
                open_image(file)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def test_postscript_called_a_photograph_is_not_run(tmp_path: Path, monkeypatch):
    """Pillow goes by the content, and for this one it starts Ghostscript."""
    (tmp_path / "x.jpg").write_bytes(POSTSCRIPT)
    with Image.open(tmp_path / "x.jpg") as plain:
        assert plain.format == "EPS"
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: started.append(a))
    with pytest.raises(UserError, match="not a readable image"):
        open_image(tmp_path / "x.jpg")
    assert started == []


def test_what_is_no_file_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "null.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "folder.png", "null.png"):
        with pytest.raises(UserError, match=name):
            open_image(tmp_path / name)


def test_every_dataset_of_files_refuses_a_bomb(ttt, tmp_path: Path):
    for place in ("f/train/n01440764", "f/test/n01440764", "i/val/n01440764"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1.png").write_bytes(png(50_000, 50_000))
    folder, imagenet = ImageFolder("f", tmp_path), ImageNet("i", tmp_path)
    for open_it in (folder.open, folder.open_training, imagenet.open):
        with pytest.raises(UserError, match="more than"):
            open_it(0)
    words = ["run", "-m", "clip-zero-shot", "-d", "imagefolder:f", "-b", "tiny-clip"]
    code, out, err = ttt(*words, "--device", "cpu")
    assert (code, out) == (2, "")
    assert any("1.png" in line and "more than" in line for line in err.splitlines())
    assert "Traceback" not in err


def test_a_bomb_is_one_line_on_a_terminal(tmp_path: Path):
    """Where Pillow only warns, outside of pytest, which makes an error of every warning."""
    (tmp_path / "x.png").write_bytes(png(9_500, 9_500))
    code = (
        "import sys, pathlib; from ttt_bench.cli import main; from ttt_bench.api import "
        "on_disk; sys.modules['click'].Group.main = lambda *a, **k: on_disk.open_image("
        "pathlib.Path('x.png')); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert re.fullmatch(r"ttt-bench: x\.png: refused, .*\n", done.stderr)


def test_the_embedded_data_is_no_pickle():
    """`np.load` refuses pickles unless asked; the embedded files do without."""
    for file in (ROOT / "ttt_bench").rglob("*.npz"):
        with np.load(file, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype.kind != "O" for name in arrays)
    assert len(Cifar10CMini("", None).entries) == 3200
