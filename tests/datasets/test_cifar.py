"""CIFAR-10 and CIFAR-10-C as their authors publish them, twenty images to a file."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from ttt_bench import UserError
from ttt_bench.datasets.cifar import Cifar10, Cifar10C, read_batch
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.datasets.corruptions import SHORT_NAMES

COUNT = 20
LABELS = np.arange(COUNT) * 3 % 10


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory):
    monkeypatch.setattr("ttt_bench.datasets.cifar.BATCH", COUNT)
    monkeypatch.setattr("ttt_bench.datasets.cifar.REVISION_EVERY", 10)
    monkeypatch.delenv("TTT_BENCH_DATA", raising=False)
    empty = tmp_path_factory.mktemp("home")
    monkeypatch.setattr("platformdirs.user_data_path", lambda _: empty)


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)


def planes(seed: int) -> np.ndarray:
    """The red, then the green, then the blue plane of each image."""
    return images(seed).transpose(0, 3, 1, 2).reshape(COUNT, 3072)


def binary(seed: int) -> bytes:
    return np.concatenate([LABELS[:, None].astype(np.uint8), planes(seed)], 1).tobytes()


def python2(seed: int) -> bytes:
    """A pickle as Python 2 and numpy 1 wrote it: byte strings, protocol 2."""
    pixels = planes(seed).tobytes()
    return b"".join(
        [
            b"\x80\x02}(U\x06labels](",
            *(b"K" + bytes([label]) for label in LABELS.tolist()),
            b"eU\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            b"(K\x01K\x14M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<i", len(pixels)) + pixels,
            b"tbu.",
        ]
    )


def write(folder: Path, kind: str) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(["test_batch", *(f"data_batch_{i}" for i in range(1, 6))]):
        if kind == "bin":
            (folder / f"{name}.bin").write_bytes(binary(number))
        else:
            (folder / name).write_bytes(python2(number))
    return folder


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("cifar-10-batches-bin", "bin"),
        ("cifar10/cifar-10-batches-bin", "bin"),
        ("cifar-10-batches-py", "py"),
        ("cifar10/cifar-10-batches-py", "py"),
    ],
)
def test_cifar10(place: str, kind: str, tmp_path: Path):
    write(tmp_path / place, kind)
    dataset = Cifar10("", tmp_path)
    assert [entry.label for entry in dataset.entries] == LABELS.tolist()
    assert np.array_equal(dataset.open(7), images(0)[7])
    assert len(dataset.training) == 5 * COUNT
    assert dataset.training[COUNT + 3].label == LABELS[3]
    assert np.array_equal(dataset.open_training(COUNT + 3), images(2)[3])
    assert len({dataset.sample_id(i) for i in range(COUNT)}) == COUNT
    assert dataset.classes == Cifar10CMini.classes
    assert dataset.actual_counts() == dataset.expected_counts()
    assert not list(dataset.problems())


def test_both_versions_are_one_dataset(tmp_path: Path):
    write(tmp_path / "a" / "cifar-10-batches-bin", "bin")
    write(tmp_path / "b" / "cifar-10-batches-py", "py")
    first, second = Cifar10("", tmp_path / "a"), Cifar10("", tmp_path / "b")
    assert first.card() == second.card()
    assert first.entries == second.entries


def test_broken_files_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="cifar10: no folder cifar10"):
        Cifar10("", tmp_path)
    folder = write(tmp_path / "cifar10", "bin")
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(UserError, match=r"data_batch_4.bin: not 20 images"):
        Cifar10("", tmp_path)
    (folder / "data_batch_4.bin").write_bytes(binary(4)[:-1])
    with pytest.raises(UserError, match=r"data_batch_4.bin: not 20 images"):
        Cifar10("", tmp_path)
    (folder / "test_batch.bin").write_bytes(b"\x0a" + binary(0)[1:])
    with pytest.raises(UserError, match=r"test_batch.bin: .*do not fit"):
        Cifar10("", tmp_path)
    (folder / "test_batch.bin").unlink()
    with pytest.raises(UserError, match=r"no test_batch.bin or test_batch"):
        Cifar10("", tmp_path)


class Attack:
    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_runs_no_code(protocol: int, tmp_path: Path):
    file = tmp_path / "test_batch"
    file.write_bytes(pickle.dumps({"data": Attack(tmp_path / "hit")}, protocol))
    with pytest.raises(UserError, match="it names"):
        read_batch(file)
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("cut", [1, 100, 40_000])
def test_a_damaged_pickle_is_refused(cut: int, tmp_path: Path):
    file = tmp_path / "test_batch"
    file.write_bytes(python2(0)[:-cut])
    with pytest.raises(UserError, match="unpack it again"):
        read_batch(file)


@pytest.fixture(params=["CIFAR-10-C", "cifar10-c", "cifar10-c/CIFAR-10-C"])
def official(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / request.param
    folder.mkdir(parents=True)
    np.save(folder / "labels.npy", np.tile(LABELS, 5))
    for number, name in enumerate(SHORT_NAMES):
        np.save(folder / f"{name}.npy", np.concatenate([images(9 * number + s) for s in range(5)]))
    return folder


def test_cifar10_c(official: Path, tmp_path: Path):
    dataset = Cifar10C("", tmp_path)
    assert len(dataset.entries) == 75 * COUNT
    dataset = Cifar10C("fog@4,snow@2", tmp_path)
    assert dataset.name == "cifar10-c:fog@4,snow@2"
    number = list(SHORT_NAMES).index("fog")
    assert np.array_equal(dataset.open(5), images(9 * number + 3)[5])
    assert dataset.entries[5].group == "fog@4"
    assert dataset.entries[5].label == LABELS[5]
    assert dataset.path(5) == official / "fog.npy"
    assert not list(dataset.problems())
    card = dataset.card()
    assert card["corruption_source"] == "official files"
    np.save(official / "fog.npy", np.load(official / "fog.npy") // 2)
    assert Cifar10C("fog@4,snow@2", tmp_path).card() != card


def test_cifar10_c_that_does_not_fit(official: Path, tmp_path: Path):
    np.save(official / "fog.npy", images(0))
    with pytest.raises(UserError, match=r"fog.npy: uint8 \[20, 32, 32, 3\]"):
        Cifar10C("fog", tmp_path)
    assert Cifar10C("snow", tmp_path).entries
    np.save(official / "fog.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match=r"fog.npy: cannot be read"):
        Cifar10C("fog", tmp_path)
    (official / "fog.npy").write_bytes((official / "snow.npy").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"fog.npy: cannot be read"):
        Cifar10C("fog", tmp_path)
    (official / "fog.npy").unlink()
    with pytest.raises(UserError, match=r"fog.npy: cannot be read"):
        Cifar10C("fog", tmp_path)
    np.save(official / "labels.npy", np.arange(5 * COUNT) % 10 + 1)
    with pytest.raises(UserError, match=r"labels.npy: not CIFAR-10-C's labels"):
        Cifar10C("snow", tmp_path)


def test_generated_cifar10_c(tmp_path: Path):
    pytest.importorskip("imagecorruptions")
    write(tmp_path / "cifar-10-batches-bin", "bin")
    dataset = Cifar10C("@5:generated", tmp_path)
    assert len(dataset.entries) == 15 * COUNT
    assert dataset.card()["corruption_source"].startswith("generated: imagecorruptions-imaug ")
    assert dataset.card()["revision"] == Cifar10("", tmp_path).card()["revision"]
    indices = range(3, 15 * COUNT, COUNT)
    first = [np.asarray(dataset.open(index)) for index in indices]
    for index, image in reversed(list(zip(indices, first, strict=True))):
        np.random.seed(index)
        assert image.shape == (32, 32, 3)
        assert np.array_equal(dataset.open(index), image)
        assert not np.array_equal(image, images(0)[3])
        assert dataset.entries[index].label == LABELS[3]
    with pytest.raises(UserError, match="takes no path"):
        Cifar10C("@5:generated=here", tmp_path)


@pytest.mark.parametrize("name", ["data_batch_4.bin", "test_batch.bin"])
def test_a_pipe_in_the_place_of_a_file_is_refused(name: str, tmp_path: Path):
    folder = write(tmp_path / "cifar10", "bin")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(UserError, match=r"named pipe|no test_batch\.bin"):
        Cifar10("", tmp_path)
