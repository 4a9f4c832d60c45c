"""Bad input: one clear line, exit code 2, nothing lost."""

import errno
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from ttt_bench.api.specs import BackboneSpec
from ttt_bench.registry import registered
from ttt_bench.runs.arrow import to_parquet
from ttt_bench.runs.checksum import UNSEALED, sealed_file
from ttt_bench.runs.folder import RunFolder

RUN = ("run", "--device", "cpu", "--limit", 70, "--output", "r")
ZERO_SHOT = ("--method", "clip-zero-shot")
MINI = ("--dataset", "cifar10-c-mini")


def one_line(result: tuple[int, str, str], *wanted: str) -> None:
    code, out, err = result
    assert code == 2, (out, err)
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    assert "Traceback" not in err
    assert all(word in line for word in wanted), line


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--method", "amp", *MINI), ["method 'amp'", "apm"]),
        ((*ZERO_SHOT, "--dataset", "cifar10-mini"), ["dataset 'cifar10-mini'", "cifar10-c-mini"]),
        ((*ZERO_SHOT, *MINI, "--backbone", "tinyclip"), ["backbone 'tinyclip'", "tiny-clip"]),
        ((*ZERO_SHOT, *MINI, "--backbone", "open_clip"), ["open_clip:ARCHITECTURE/TAG"]),
        ((*ZERO_SHOT, *MINI, "--backbone", "open_clip:ViT-B-61/openai"), ["ViT-B-61", "ViT-B-16"]),
        ((*ZERO_SHOT, *MINI, "--backbone", "open_clip:ViT-B-16/opnai"), ["opnai", "openai"]),
        ((*ZERO_SHOT, "--dataset", "cifar10-c-mini:fgo"), ["corruption 'fgo'", "fog"]),
        ((*ZERO_SHOT, "--dataset", "cifar10-c-mini:@4"), ["severity '4'", "known: 3, 5"]),
        ((*ZERO_SHOT, "--dataset", "cifar10-c-mini:validation,@3"), ["severity '3'", "known: 5"]),
        ((*ZERO_SHOT, "--dataset", "cifar10:x"), ["takes no argument"]),
        ((*ZERO_SHOT, "--dataset", "imagefolder:nowhere"), ["no folder nowhere"]),
        (("--method", "apm", *MINI, "--set", "step=3"), ["'step'", "steps"]),
        ((*ZERO_SHOT, *MINI, "--set", "steps=3"), ["'steps'"]),
        (("--method", "apm", *MINI, "--set", "amp.steps=3"), ["'amp'", "apm"]),
        (("--method", "apm", *MINI, "--set", "steps=0"), ["steps=0", "greater than or equal to 1"]),
        (("--method", "apm", *MINI, "--set", "lr=fast"), ["lr='fast'"]),
        (("--method", "apm", *MINI, "--set", "pooling=max"), ["pooling='max'"]),
        (("--method", "apm", *MINI, "--set", "steps"), ["KEY=VALUE"]),
        (("--method", "apm", *MINI, "--set", "grid=6"), ["image_size=32", "grid=6"]),
        ((*ZERO_SHOT, *MINI, "--limit", "0"), ["--limit", "0"]),
        ((*ZERO_SHOT, *MINI, "--batch-size", "-1"), ["--batch-size"]),
        ((*ZERO_SHOT, *MINI, "--seed", "x"), ["--seed"]),
        ((*ZERO_SHOT, *MINI, "--executor", "locl"), ["executor 'locl'", "local"]),
        ((*ZERO_SHOT, *MINI, "--config", "none.yaml"), ["none.yaml"]),
        ((*ZERO_SHOT, *MINI, "--lmit", "3"), ["--lmit", "--limit"]),
        (ZERO_SHOT, ["--dataset"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_refused_before_anything_runs(ttt, arguments, wanted):
    one_line(ttt(*RUN, *arguments), *wanted)
    assert not list(Path("r").rglob("*.parquet"))


def test_one_bad_method_starts_none(ttt):
    one_line(ttt(*RUN, *ZERO_SHOT, "--method", "amp", *MINI), "amp")
    assert not Path("r").exists()


def test_a_method_that_cannot_work_starts_none(ttt, tmp_path: Path):
    """Found out only when the method is set up for its task, and still before the first runs."""
    folder = tmp_path / "photos" / "long"
    folder.mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(folder / "1.png")
    (tmp_path / "photos" / "classnames.txt").write_text("long " + "very " * 80 + "long name")
    photos = ("--dataset", "imagefolder:photos", "--backbone", "tiny-clip")
    one_line(ttt(*RUN, *ZERO_SHOT, "--method", "tpt", *photos), "does not fit")
    assert not Path("r").exists()


def test_backbone_without_what_the_method_needs(ttt):
    blind = BackboneSpec(name="blind", summary="no text tower", code="nowhere:Nothing")
    with registered(backbones=[blind]):
        one_line(ttt(*RUN, "-m", "tpt", *MINI, "-b", "blind"), "tpt needs DualEncoder", "blind")


def test_unknown_command_name_and_list(ttt):
    one_line(ttt("rnu"), "command 'rnu'", "run")
    one_line(ttt("list", "method"), "methods")
    one_line(ttt("show", "apn"), "'apn'", "apm")
    one_line(ttt("compare", "nowhere"), "nowhere")


@pytest.mark.parametrize("text", ["method: [apm", "- apm", "limmit: 3", "set: 3"])
def test_bad_config_file(ttt, tmp_path: Path, text: str):
    (tmp_path / "run.yaml").write_text(text)
    one_line(ttt(*RUN, *ZERO_SHOT, *MINI, "--config", "run.yaml"), "run.yaml")


@pytest.fixture
def finished(ttt) -> RunFolder:
    code, _, err = ttt(*RUN, *ZERO_SHOT, *MINI)
    assert code == 0, err
    return RunFolder(Path("r/cifar10-c-mini/clip-zero-shot"))


def test_folder_of_another_run(ttt, finished):
    one_line(ttt(*RUN, *ZERO_SHOT, *MINI, "--seed", 5), "another run", "seed: 5 here, 0 there")
    assert finished.chunk_path(0).exists()


def test_folder_of_something_else(ttt, tmp_path: Path):
    place = tmp_path / "r" / "cifar10-c-mini" / "clip-zero-shot"
    place.mkdir(parents=True)
    (place / "thesis.tex").write_text("years of work")
    one_line(ttt(*RUN, *ZERO_SHOT, *MINI), "not empty")
    assert (place / "thesis.tex").exists()


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncated_chunk(ttt, finished, keep: float):
    chunk = finished.chunk_path(1)
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: int(keep * len(whole))])
    one_line(ttt("compare", "r"), "000001.parquet", "run the same command")
    assert_mends(ttt, finished, "000001.parquet")


def assert_mends(ttt, finished: RunFolder, name: str) -> None:
    """The same command does the damaged chunk again, says so, and leaves the others alone."""
    others = {
        path: path.stat().st_mtime_ns
        for path in (finished.path / "chunks").iterdir()
        if path.name != name
    }
    code, _, err = ttt(*RUN, *ZERO_SHOT, *MINI)
    assert code == 0, err
    (line,) = [line for line in err.splitlines() if name in line]
    assert line.endswith("it is done again")
    assert ttt("compare", "r")[0] == 0
    assert others == {path: path.stat().st_mtime_ns for path in others}


def test_flipped_byte_in_a_chunk(ttt, finished):
    chunk = finished.chunk_path(0)
    damaged = bytearray(chunk.read_bytes())
    damaged[len(damaged) // 3] ^= 0xFF
    chunk.write_bytes(damaged)
    one_line(ttt("compare", "r"), "000000.parquet")
    assert_mends(ttt, finished, "000000.parquet")


def test_a_chunk_whose_values_were_edited(ttt, finished):
    """A file that is whole and sealed, with a right answer more than the method gave."""
    table = pq.read_table(finished.chunk_path(0))
    label = table.column_names.index("prediction")
    right = table.set_column(label, table.schema.field(label), table["label"])
    unsealed = right.replace_schema_metadata({**right.schema.metadata, b"file": UNSEALED})
    finished.chunk_path(0).write_bytes(sealed_file(to_parquet(unsealed)))
    one_line(ttt("compare", "r"), "000000.parquet", "checksum")
    assert_mends(ttt, finished, "000000.parquet")


def test_chunk_of_another_place(ttt, finished):
    finished.chunk_path(1).write_bytes(finished.chunk_path(0).read_bytes())
    one_line(ttt("compare", "r"), "000001.parquet", "another chunk")
    assert_mends(ttt, finished, "000001.parquet")


@pytest.mark.parametrize("text", ["", '{"card": ', "[]", "{}"])
def test_truncated_manifest(ttt, finished, text: str):
    (finished.path / "manifest.json").write_text(text)
    one_line(ttt("compare", "r"), "manifest.json")
    # Its chunks tell that it is the same run.
    untouched = finished.chunk_path(0).stat().st_mtime_ns
    code, _, err = ttt(*RUN, *ZERO_SHOT, *MINI)
    assert code == 0, err
    assert "it is made again" in err
    assert finished.chunk_path(0).stat().st_mtime_ns == untouched
    assert ttt("compare", "r")[0] == 0
    (finished.path / "manifest.json").write_text(text)
    one_line(ttt(*RUN, *ZERO_SHOT, *MINI, "--seed", 5), "manifest.json", "--fresh")


def test_edited_card(ttt, finished):
    manifest = json.loads((finished.path / "manifest.json").read_text())
    manifest["card"]["protocol"]["limit"] = 71
    (finished.path / "manifest.json").write_text(json.dumps(manifest))
    one_line(ttt("compare", "r"), "manifest.json", "protocol.limit was edited")


def test_unfinished_run_is_not_compared(ttt, finished):
    assert ttt(*RUN, "-m", "clip-ensemble", *MINI)[0] == 0
    finished.chunk_path(2).unlink()
    code, out, err = ttt("compare", "r")
    assert code == 0
    assert "clip-ensemble" in out
    assert "clip-zero-shot" not in out
    (line,) = err.splitlines()
    assert line.startswith("left out")
    assert "000002.parquet is missing" in line
    one_line(ttt("compare", finished.path), "000002.parquet", "missing")


def test_full_disk_keeps_finished_chunks(ttt, monkeypatch):
    write = Path.write_bytes
    written = []

    def full(path, content):
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        one_line(ttt(*RUN, *ZERO_SHOT, *MINI), "No space left on device", "same command")
    folder = RunFolder(Path("r/cifar10-c-mini/clip-zero-shot"))
    assert [path.name for path in (folder.path / "chunks").iterdir()] == ["000000.parquet"]
    assert ttt(*RUN, *ZERO_SHOT, *MINI)[0] == 0


def test_output_that_is_a_file(ttt, tmp_path: Path):
    (tmp_path / "r").write_text("")
    one_line(ttt(*RUN, *ZERO_SHOT, *MINI), "r")


def test_unreadable_image(ttt, tmp_path: Path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (40, 30), "red").save(tmp_path / "photos" / name / "1.png")
    whole = (tmp_path / "photos" / "dog" / "1.png").read_bytes()
    (tmp_path / "photos" / "dog" / "2.png").write_bytes(whole[:60])
    folder = ("--dataset", "imagefolder:photos", "--backbone", "tiny-clip")
    code, out, err = ttt(*RUN, *ZERO_SHOT, *folder)
    assert (code, out) == (2, "")
    named, last = err.splitlines()[-2:]
    assert "2.png" in named
    assert "not a readable image" in named
    assert "1 image cannot be read" in last
