"""ImageNet-C: what may be asked for, the official layout, and corruptions made here."""

import hashlib
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo

from ttt_bench import UserError
from ttt_bench.api.dataset import Entry, spread_sample
from ttt_bench.datasets import corruptions
from ttt_bench.datasets.corruptions import SHORT_NAMES, CorruptedEntries, corrupt, parse_selection
from ttt_bench.datasets.imagenet import ImageNet
from ttt_bench.datasets.imagenet_c import ImageNetC, imagenet_c_crop

SYNSETS: list[str] = ImageNetInfo().label_names()
FILE = "ILSVRC2012_val_00000293.JPEG"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory):
    """No data of the user's own is looked at."""
    monkeypatch.delenv("TTT_BENCH_DATA", raising=False)
    empty = tmp_path_factory.mktemp("home")
    monkeypatch.setattr("platformdirs.user_data_path", lambda _: empty)


@pytest.mark.parametrize(
    ("argument", "count", "first", "last"),
    [
        ("", 75, ("brightness", 1), ("zoom_blur", 5)),
        ("@5", 15, ("brightness", 5), ("zoom_blur", 5)),
        ("fog", 5, ("fog", 1), ("fog", 5)),
        ("snow@5,fog@5", 2, ("fog", 5), ("snow", 5)),
        ("fog@5,fog@2,fog", 5, ("fog", 1), ("fog", 5)),
        ("fog@3:generated=a:b,c=d", 1, ("fog", 3), ("fog", 3)),
        ("generated", 75, ("brightness", 1), ("zoom_blur", 5)),
        ("generated=a", 75, ("brightness", 1), ("zoom_blur", 5)),
        (":generated", 75, ("brightness", 1), ("zoom_blur", 5)),
    ],
)
def test_selection(argument: str, count: int, first: tuple, last: tuple):
    selection = parse_selection("imagenet-c", argument)
    assert len(selection.conditions) == len(set(selection.conditions)) == count
    assert (selection.conditions[0], selection.conditions[-1]) == (first, last)
    assert selection.generated == ("generated" in argument)
    assert selection.clean == argument.partition("=")[2]


def test_groups_name_the_severity_where_it_differs():
    assert parse_selection("imagenet-c", "snow@5,fog@5").groups == ("fog", "snow")
    assert parse_selection("imagenet-c", "snow@5,fog@4").groups == ("fog@4", "snow@5")
    assert parse_selection("imagenet-c", "@5").groups == tuple(SHORT_NAMES)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("frog@5", "unknown corruption 'frog'; did you mean fog or frost?"),
        ("fog@6", "unknown severity '6'"),
        ("fog@", "unknown severity ''"),
        ("fog@5,", "a comma has no condition beside it"),
        ("fog@5:generate", "did you mean generated?"),
        ("fog@5:=x", "unknown source of corruptions ''"),
    ],
)
def test_bad_selections(argument: str, message: str):
    with pytest.raises(UserError) as error:
        parse_selection("imagenet-c", argument)
    assert message in str(error.value)


def test_entries_are_the_clean_ones_under_each_condition():
    clean = [Entry(f"{label}/x", None, label) for label in range(4)]
    entries = CorruptedEntries(parse_selection("imagenet-c", "fog,snow@2"), clean)
    assert len(entries) == 24
    assert entries[5] == Entry("fog/2/1/x", "fog@2", 1)
    assert entries[-1] == Entry("snow/2/3/x", "snow@2", 3)
    assert entries.locate(-1) == ("snow", 2, 3)
    assert entries[3:5] == [entries[3], entries[4]]
    assert list(entries) == [entries[i] for i in range(24)]
    assert len({entries[i].group for i in spread_sample(entries, 6)}) == 6
    with pytest.raises(IndexError):
        entries[24]


def make_official(root: Path, conditions: list[str]) -> Path:
    image = root / "image.jpg"
    Image.new("RGB", (224, 224), (0, 90, 0)).save(image, quality=85)
    data = image.read_bytes()
    image.unlink()
    for condition in conditions:
        for synset in SYNSETS:
            folder = root / condition / synset
            folder.mkdir(parents=True)
            (folder / FILE).write_bytes(data)
    return root


@pytest.fixture
def one_each(monkeypatch: pytest.MonkeyPatch):
    """Pretend that ImageNet has one validation image of each class."""
    monkeypatch.setattr(ImageNet, "spec", replace(ImageNet.spec, total=1000, per_class=1))


@pytest.mark.usefixtures("one_each")
def test_official_layout(tmp_path: Path):
    (tmp_path / "ImageNet-C").mkdir()
    # One archive unpacked in place, one into a folder of its own.
    make_official(tmp_path / "ImageNet-C", ["fog/5", "blur/defocus_blur/5"])
    dataset = ImageNetC("fog@5,defocus_blur@5", tmp_path)
    assert dataset.name == "imagenet-c:fog@5,defocus_blur@5"
    assert len(dataset.entries) == 2000
    assert dataset.entries[0] == Entry(f"defocus_blur/5/{SYNSETS[0]}/{FILE}", "defocus_blur", 0)
    assert dataset.entries[1001] == Entry(f"fog/5/{SYNSETS[1]}/{FILE}", "fog", 1)
    assert dataset.path(1001) == tmp_path / "ImageNet-C" / "fog" / "5" / SYNSETS[1] / FILE
    assert dataset.open(1001).size == (224, 224)
    card = dataset.card()
    assert card["corruption_source"] == "official files"
    dataset.path(0).write_bytes(dataset.path(0).read_bytes() + b"\0")
    assert dataset.card() != card
    assert not list(dataset.problems())


@pytest.mark.usefixtures("one_each")
def test_official_files_that_do_not_fit(tmp_path: Path):
    root = tmp_path / "imagenet-c"
    root.mkdir()
    make_official(root, ["fog/4", "fog/5"])
    with pytest.raises(UserError, match=r"no folder snow in .*append :generated"):
        ImageNetC("snow@5", tmp_path)
    with pytest.raises(UserError, match="no folder 1 in"):
        ImageNetC("fog", tmp_path)
    (root / "fog" / "5" / SYNSETS[8] / FILE).rename(root / "fog" / "5" / SYNSETS[8] / "x.JPEG")
    with pytest.raises(UserError, match=f"hold different images, first {SYNSETS[8]}/{FILE}"):
        ImageNetC("fog@4,fog@5", tmp_path)
    (root / "fog" / "5" / SYNSETS[8] / "x.JPEG").unlink()
    with pytest.raises(UserError, match=f"no image in .*{SYNSETS[8]}"):
        ImageNetC("fog@5", tmp_path)
    (root / "fog" / "5" / SYNSETS[8]).rmdir()
    with pytest.raises(UserError, match="999 class folders"):
        ImageNetC("fog@5", tmp_path)
    with pytest.raises(UserError, match="no folder imagenet-c or ImageNet-C"):
        ImageNetC("fog@5", tmp_path / "fog")


def photograph(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def test_crop_is_that_of_torchvision():
    transforms = pytest.importorskip("torchvision.transforms")
    theirs = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for size in ((500, 333), (311, 497), (256, 401), (90, 100), (256, 256)):
        image = photograph(0, size)
        assert np.array_equal(imagenet_c_crop(image), theirs(image))


@pytest.fixture
def generated(tmp_path: Path) -> ImageNetC:
    pytest.importorskip("imagecorruptions")
    for number in range(3):
        folder = tmp_path / "mine" / SYNSETS[7 * number]
        folder.mkdir(parents=True)
        photograph(number // 2).save(folder / "image.png")
    return ImageNetC("@3:generated=mine", tmp_path)


def pixels(dataset: ImageNetC, index: int) -> np.ndarray:
    return np.asarray(dataset.open(index))


def test_generated_pixels_depend_on_the_image_only(generated: ImageNetC):
    count = len(generated.entries)
    assert count == 45
    before = np.random.get_state()[1].copy(), random.getstate()
    first = [pixels(generated, index) for index in range(count)]
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert random.getstate() == before[1]
    for index in reversed(range(count)):
        np.random.seed(index)
        np.random.normal(size=index)
        assert np.array_equal(pixels(generated, index), first[index])
    for index, image in enumerate(first):
        clean = np.asarray(imagenet_c_crop(generated._clean.open(index % 3)))
        assert image.shape == (224, 224, 3)
        assert image.dtype == np.uint8
        assert np.abs(image.astype(int) - clean).mean() > 0.1


def test_two_images_get_different_noise(generated: ImageNetC):
    # The first two images are the same picture under two names.
    assert np.array_equal(generated._clean.open(0), generated._clean.open(1))
    noise = [i for i, entry in enumerate(generated.entries) if entry.group == "gaussian_noise"]
    assert not np.array_equal(pixels(generated, noise[0]), pixels(generated, noise[1]))


SNIPPET = """
import sys, hashlib
from pathlib import Path
from ttt_bench.datasets.imagenet_c import ImageNetC
dataset = ImageNetC("@3:generated=mine", Path(sys.argv[1]))
for index in map(int, sys.argv[2:]):
    print(hashlib.sha256(dataset.open(index).tobytes()).hexdigest())
"""


def test_another_process_makes_the_same_pixels(generated: ImageNetC, tmp_path: Path):
    indices = [40, 3, 12, 13, 22, 24, 37]
    done = subprocess.run(
        [sys.executable, "-c", SNIPPET, str(tmp_path), *map(str, indices)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "12345", "PATH": ""},
        cwd=Path(__file__).parents[2],
    )
    here = [hashlib.sha256(generated.open(i).tobytes()).hexdigest() for i in indices]
    assert done.stdout.split() == here


def test_generated_is_never_taken_for_official(generated: ImageNetC):
    assert generated.name == "imagenet-c:@3:generated=mine"
    version = corruptions.generator_version()
    assert generated.card()["corruption_source"] == (
        f"generated: imagecorruptions-imaug {version}, severity 3"
    )
    source = parse_selection("imagenet-c", "fog:generated").source
    assert source.endswith("severities 1, 2, 3, 4, 5")
    assert generated.entries[0].group == "brightness"
    assert generated.path(0).name == "image.png"


def test_clean_images_are_known_by_content_not_by_path(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(corruptions, "generator_version", lambda: "1")
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    for folder in (tmp_path / "mine", copy):
        (folder / SYNSETS[0]).mkdir(parents=True)
        photograph(0).save(folder / SYNSETS[0] / "image.png")
    datasets = [
        ImageNetC(f"@3:generated={path}", tmp_path) for path in ("mine", tmp_path / "mine", copy)
    ]
    assert len({dataset.name for dataset in datasets}) == 3
    (identity,) = {dataset.identity for dataset in datasets}
    assert identity.startswith("imagenet-c:@3:generated=")
    assert len({dataset.sample_id(7) for dataset in datasets}) == 1
    assert len({str(dataset.card()) for dataset in datasets}) == 1


def test_generated_from_where_imagenet_is(tmp_path: Path):
    pytest.importorskip("imagecorruptions")
    with pytest.raises(UserError, match="imagenet: no folder imagenet or ImageNet"):
        ImageNetC("fog@5:generated", tmp_path)


def test_opencv_may_lack_a_library_of_the_system(monkeypatch: pytest.MonkeyPatch):
    def fail(name: str) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(corruptions, "import_module", fail)
    with pytest.raises(UserError, match=r"libGL\.so\.1.*--no-deps opencv-python-headless$"):
        corrupt(np.zeros((32, 32, 3), np.uint8), "fog", 5, "key")


def test_the_package_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    with pytest.raises(UserError, match=r"pip install 'ttt-bench\[corruptions\]'"):
        ImageNetC("fog@5:generated", tmp_path)
    with pytest.raises(UserError, match=r"pip install 'ttt-bench\[corruptions\]'"):
        corrupt(np.zeros((32, 32, 3), np.uint8), "fog", 5, "key")
