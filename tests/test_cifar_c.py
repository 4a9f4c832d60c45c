"""Our corruptions are those of CIFAR-10-C's authors."""

from pathlib import Path

import numpy as np
import pytest

from tests import golden_check
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.testing import goldens

# golden_check has put tools/ on the path.
import cifar_c  # isort: skip
import cifar_c_golden  # isort: skip

GOLDEN = Path(__file__).parent / "golden" / "cifar_c.npz"


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return goldens.read_arrays(GOLDEN)


@pytest.mark.parametrize("corruption", cifar_c.CORRUPTIONS)
def test_a_corruption_is_that_of_the_authors(corruption: str, arrays: dict[str, np.ndarray]):
    if reason := cifar_c.missing_library(corruption):
        pytest.skip(reason)
    for severity in (1, 3, 5):
        name = f"{corruption}/{severity}"
        difference = cifar_c_golden.difference(arrays["images"], name, arrays[name])
        assert difference <= cifar_c_golden.TOLERANCES[corruption], (name, difference)


def test_the_check_prints_each_output_or_why_it_was_left_out(monkeypatch: pytest.MonkeyPatch):
    def missing(corruption: str) -> str | None:
        return None if corruption in ("fog", "contrast") else "no library"

    monkeypatch.setattr(cifar_c_golden, "missing_library", missing)
    printed = golden_check.compare(GOLDEN)
    assert printed["kind"] == "cifar_c"
    assert printed["max_abs_diff"] == {
        f"{name}/{severity}": 0.0 for name in ("contrast", "fog") for severity in (1, 3, 5)
    }
    left_out = sorted(set(cifar_c.CORRUPTIONS) - {"fog", "contrast"})
    assert printed["left_out"] == left_out
    assert printed["left_out_reasons"] == dict.fromkeys(left_out, "no library")


def test_the_check_sees_a_rounded_result_and_another_strength(arrays: dict[str, np.ndarray]):
    images = arrays["images"]
    limits = cifar_c_golden.TOLERANCES
    rounded = np.rint((images / 255.0 - 0.5) * 0.75 * 255 + 127.5).astype(np.uint8)
    assert cifar_c_golden.difference(images, "contrast/1", rounded) > limits["contrast"]
    for corruption in ("impulse_noise", "zoom_blur", "jpeg_compression"):
        stronger = arrays[f"{corruption}/5"]
        difference = cifar_c_golden.difference(images, f"{corruption}/4", stronger)
        assert difference > limits[corruption], corruption


def test_a_missing_module_is_named(monkeypatch: pytest.MonkeyPatch):
    row = cifar_c.Corruption(cifar_c.fog, ((1, 2),) * 5, ("no_such_module",))
    monkeypatch.setitem(cifar_c.CORRUPTIONS, "fog", row)
    assert cifar_c.missing_library("fog") == (
        "no_such_module cannot be imported (No module named 'no_such_module')"
    )


def test_an_image_depends_on_its_seed_alone_and_moves_no_global_generator():
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    before = np.random.get_state()[1].tolist()
    together = cifar_c.corrupt_all(images, "gaussian_noise", np.array([5, 7, 9]))
    alone = cifar_c.corrupt_all(images[1:2], "gaussian_noise", np.array([7]))
    assert (together[1] == alone[0]).all()
    assert (together[0] != cifar_c.corrupt_all(images, "gaussian_noise", np.arange(3))[0]).any()
    assert np.random.get_state()[1].tolist() == before
    with pytest.raises(ValueError, match="uint8"):
        cifar_c.corrupt(images[0] / 255.0, "fog", 5, 0)


@pytest.mark.parametrize("name", ["gaussian_noise", "fog", "contrast", "pixelate", "zoom_blur"])
def test_the_embedded_images_are_what_these_functions_make(name: str):
    for severity in (3, 5):
        dataset = Cifar10CMini(f"clean,{name}@{severity}", None)
        indices = np.array([int(entry.key.split("/")[1]) for entry in dataset.entries[:5]])
        clean, stored = (
            np.stack([np.asarray(dataset.open(first + row)) for row in range(5)])
            for first in (0, 200)
        )
        made = cifar_c.corrupt_all(clean, name, indices, severity)
        assert cifar_c_golden.distance(made, stored) <= cifar_c_golden.TOLERANCES[name]
