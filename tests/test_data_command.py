"""`ttt-bench data`: the state of datasets on disk, downloading, verifying."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.http_server import Site, serve
from ttt_bench import Archive, DatasetSpec, HowToGet, registered
from ttt_bench.api import on_disk
from ttt_bench.datasets.facts.rows import ExpectedCounts
from ttt_bench.registry import Registered, registry

FILES = [("Forest/Forest_1.jpg", 0), ("River/River_2.jpg", 1), ("River/River_1.jpg", 1)]
SPLIT = [(path, label, ("Forest", "River")[label]) for path, label in FILES]


@pytest.fixture(autouse=True)
def nobodys_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found in the folder of whoever runs the tests."""
    monkeypatch.setattr(on_disk.platformdirs, "user_data_path", lambda _: tmp_path / "user")


def change_facts(monkeypatch: pytest.MonkeyPatch, name: str, **changes: object) -> None:
    """Change the row of a built-in dataset, for the harness and for the dataset's reader."""
    item = registry().datasets[name]
    spec = replace(item.spec, **changes)
    monkeypatch.setitem(registry().datasets._items, name, Registered(spec, item.plugin))
    monkeypatch.setattr(item.spec.load(), "spec", spec)


@pytest.fixture
def eurosat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data" / "eurosat"
    save_images(folder / "2750")
    split = {"train": SPLIT[:1], "val": SPLIT[:1], "test": SPLIT}
    (folder / "split_zhou_EuroSAT.json").write_text(json.dumps(split))
    counts = ExpectedCounts(images=3, classes=2, per_class=(1, 2))
    change_facts(monkeypatch, "eurosat", counts=counts)
    return folder


def save_images(folder: Path) -> None:
    for path, label in FILES:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (90 * label, 90, 9)).save(folder / path)


def one_line(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    assert "Traceback" not in err
    return line


def test_status_shows_all_that_lie_on_disk(ttt, eurosat: Path):
    code, out, err = ttt("data", "status", "--data-root", "data")
    assert code == 0, err
    rows = {line.split()[1]: line for line in out.splitlines() if line.startswith("│")}
    assert {"flowers102", "dtd", "sun397", "fgvc-aircraft", "eurosat"} <= rows.keys()
    assert "imagefolder" not in rows
    assert "cifar10-c-mini" not in rows
    assert "found" in rows["eurosat"]
    assert str(Path("data/eurosat")) in rows["eurosat"]
    assert "missing" in rows["dtd"]
    assert "download, steps" in rows["dtd"]
    assert "by hand" in rows["ucf101"]
    assert "looked in: data, " in out


def test_status_names_the_first_problem(ttt, eurosat: Path):
    (eurosat / "2750" / "River" / "River_1.jpg").unlink()
    code, out, _ = ttt("data", "status", "eurosat", "dtd", "--data-root", "data")
    assert code == 0
    assert "eurosat: broken" in out
    assert "River_1.jpg: missing; of 3 test images 1 are" in out
    assert "dtd: missing" in out
    assert "dtd-r1.0.1.tar.gz (0.63 GB, md5:fff73e5086ae6bdbea199a49dfb8a4c1)" in out
    assert "1. Take split_zhou_DescribableTextures.json" in out


def test_status_as_json(ttt, eurosat: Path, monkeypatch):
    monkeypatch.setenv("TTT_BENCH_DATA", "data")
    code, out, _ = ttt("data", "status", "eurosat", "ucf101", "--format", "json")
    assert code == 0
    found, missing = json.loads(out)["datasets"]
    assert (found["name"], found["status"], found["problem"]) == ("eurosat", "found", "")
    assert found["path"] == str(Path("data/eurosat"))
    assert found["archives"][0]["hash"].startswith("md5:")
    assert (missing["name"], missing["status"], missing["path"]) == ("ucf101", "missing", None)
    assert "no folder ucf101" in missing["problem"]
    assert len(missing["steps"]) == 3


def test_broken_plugin_is_shown_and_stops_nothing(ttt, eurosat: Path):
    spec = DatasetSpec(
        name="half-made", summary="", code="nowhere:Nothing", source="", licence="",
        folders=("half-made",), how_to_get=HowToGet(gigabytes=1.0),
    )  # fmt: skip
    with registered(datasets=[spec]):
        code, out, _ = ttt("data", "status", "--data-root", "data", "--format", "json")
    assert code == 0
    states = {one["name"]: one for one in json.loads(out)["datasets"]}
    assert states["half-made"]["status"] == "broken"
    assert "nowhere" in states["half-made"]["problem"]
    assert states["eurosat"]["status"] == "found"


def test_verify(ttt, eurosat: Path):
    code, out, err = ttt("data", "verify", "--data-root", "data")
    assert code == 0, err
    assert "eurosat: 3 test images, 2 classes, in" in out
    assert "3 counts compared with the published ones, 3 images decoded: 0 problems" in out


def test_verify_names_a_truncated_image(ttt, eurosat: Path):
    image = eurosat / "2750" / "River" / "River_2.jpg"
    image.write_bytes(image.read_bytes()[:-20])
    code, out, err = ttt("data", "verify", "eurosat", "--data-root", "data")
    assert code == 2
    assert "3 images decoded: 1 problems" in out
    assert "River_2.jpg: not a readable image" in one_line(err)


def test_verify_names_a_missing_image_and_counts_further_datasets(ttt, eurosat: Path):
    (eurosat / "2750" / "River" / "River_1.jpg").unlink()
    code, out, err = ttt("data", "verify", "eurosat", "dtd", "--data-root", "data")
    assert code == 2
    assert out.split() == ["eurosat:", "broken", "dtd:", "missing"]
    assert "River_1.jpg: missing" in one_line(err)
    assert "1 more datasets with problems" in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("status", "eurosad"), ["'eurosad'", "eurosat"]),
        (("verify", "cifar10-c-mini"), ["nothing to get"]),
        (("status", "eurosat:x"), ["takes no argument"]),
        (("verify",), ["no dataset is on disk"]),
        (("verify", "dtd"), ["dtd: no folder dtd or DTD in"]),
        (("download",), ["DATASET"]),
        (("download", "eurosad"), ["'eurosad'", "eurosat"]),
        (("stats",), ["'stats'"]),
        (("status", "--format", "yaml"), ["--format", "yaml"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input(ttt, arguments: tuple[str, ...], wanted: list[str]):
    code, _, err = ttt("data", *arguments)
    assert code == 2
    assert all(word in one_line(err) for word in wanted)


def test_what_cannot_be_fetched_is_explained(ttt, eurosat: Path):
    code, out, err = ttt("data", "download", "ucf101", "--data-root", "data")
    assert code == 2
    assert "1. Take UCF-101-midframes.zip" in out
    assert "ucf101: no public address" in one_line(err)
    code, out, _ = ttt("data", "download", "eurosat", "ucf101", "--data-root", "data")
    assert code == 0
    assert f"eurosat: complete, in {Path('data/eurosat')}" in out
    assert "1. Take UCF-101-midframes.zip" in out


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as site:
        yield site


@pytest.fixture
def served(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The images of the miniature as an archive that EuroSAT's facts name."""
    save_images(tmp_path / "packed" / "2750")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(tmp_path / "packed" / "2750", "2750")
    site.files["/eurosat.tgz"] = content = buffer.getvalue()
    packed = Archive(
        url=f"{site.url}/eurosat.tgz", hash=f"sha256:{hashlib.sha256(content).hexdigest()}",
        size=len(content), folder="2750", inner="2750",
    )  # fmt: skip
    how_to_get = HowToGet(archives=(packed,), steps=("Take the split.",), gigabytes=0.001)
    change_facts(monkeypatch, "eurosat", how_to_get=how_to_get)
    return site


def test_download_says_what_remains_and_is_done_once(ttt, served: Site, eurosat: Path):
    split = (eurosat / "split_zhou_EuroSAT.json").read_bytes()
    shutil.rmtree(eurosat)
    download = ("data", "download", "eurosat", "--data-root", "data")
    code, out, err = ttt(*download)
    assert code == 0, err
    assert "eurosat: downloaded, in" in out
    assert "no split_zhou_EuroSAT.json" in out
    assert "1. Take the split." in out
    assert "eurosat.tgz: 0.0 of 0.0 MB" in err
    code, out, _ = ttt(*download)
    assert code == 0
    assert "eurosat: unpacked earlier" in out
    (eurosat / "split_zhou_EuroSAT.json").write_bytes(split)
    assert ttt("data", "verify", "eurosat", "--data-root", "data")[0] == 0
    assert f"eurosat: complete, in {Path('data/eurosat')}" in ttt(*download)[1]
    assert len(served.asked) == 1


def test_download_completes_a_dataset(ttt, served: Site, eurosat: Path):
    """The split was there first; the archive goes beside it, into the data root of its own name."""
    shutil.rmtree(eurosat / "2750")
    code, out, err = ttt("data", "download", "eurosat", "--data-root", "data")
    assert code == 0, err
    assert f"eurosat: complete, in {Path('data/eurosat')}" in out
    assert ttt("data", "verify", "eurosat", "--data-root", "data")[0] == 0


def test_interrupted_download_continues(ttt, served: Site, eurosat: Path):
    shutil.rmtree(eurosat / "2750")
    served.cut = 100
    download = ("data", "download", "eurosat", "--data-root", "data")
    code, _, err = ttt(*download)
    assert code == 2
    assert "the same command continues after 100 bytes" in one_line(err)
    served.cut = None
    assert ttt(*download)[0] == 0
    assert [asked for _, asked in served.asked] == [None, "bytes=100-"]


def test_wrong_hash_is_one_line(ttt, served: Site, eurosat: Path):
    shutil.rmtree(eurosat / "2750")
    served.files["/eurosat.tgz"] += b"?"
    code, _, err = ttt("data", "download", "eurosat", "--data-root", "data")
    assert code == 2
    assert "eurosat.tgz: refused (" in one_line(err)
    assert sorted(path.name for path in eurosat.iterdir()) == ["split_zhou_EuroSAT.json"]


def test_archive_that_does_not_fit_its_dataset(ttt, served: Site, eurosat: Path, monkeypatch):
    """Nothing remains to be done by hand, so that it does not fit is the command's error."""
    how_to_get = registry().datasets["eurosat"].spec.how_to_get
    change_facts(monkeypatch, "fgvc-aircraft", how_to_get=replace(how_to_get, steps=()))
    code, _, err = ttt("data", "download", "fgvc-aircraft", "--data-root", "data")
    assert code == 2
    assert "no variants.txt" in one_line(err)


def test_download_goes_to_the_users_folder_by_default(ttt, served: Site, tmp_path, monkeypatch):
    how_to_get = registry().datasets["eurosat"].spec.how_to_get
    change_facts(monkeypatch, "dtd", how_to_get=how_to_get)
    code, out, err = ttt("data", "download", "dtd")
    assert code == 0, err
    assert f"dtd: downloaded, in {tmp_path / 'user' / 'dtd'}" in out
    assert (tmp_path / "user" / "dtd" / "2750" / "River" / "River_1.jpg").exists()
