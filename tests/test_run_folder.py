"""A run folder cannot lie: every file is bound to its run, and what is damaged is found."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.test_bad_input import one_line
from ttt_bench.runs.folder import RunFolder

RUN = ("run", "-d", "cifar10-c-mini", "--device", "cpu", "--limit", "80", "-o", "r")
METHODS = ("-m", "clip-zero-shot", "-m", "apm", "--set", "apm.steps=2")


@pytest.fixture
def folders(ttt) -> list[RunFolder]:
    code, _, err = ttt(*RUN, *METHODS)
    assert code == 0, err
    return [RunFolder(Path("r/cifar10-c-mini") / name) for name in ("clip-zero-shot", "apm")]


def test_a_chunk_of_another_method_is_refused_and_done_again(ttt, folders):
    zero_shot, apm = folders
    before = apm.read_records()
    shutil.copy(zero_shot.chunk_path(1), apm.chunk_path(1))
    one_line(ttt("compare", "r"), "000001.parquet", "another run")
    one_line(ttt("report", "r"), "000001.parquet", "another run")
    code, _, err = ttt(*RUN, *METHODS)
    assert code == 0, err
    assert "it is done again" in err
    assert (apm.read_records().logits == before.logits).all()


@pytest.mark.parametrize("name", ["cost.json", "summary.json"])
def test_any_edited_number_of_a_file_is_found_and_made_again(ttt, folders, name: str):
    file = folders[1].path / name
    whole = file.read_text()
    digit = next(i for i, letter in enumerate(whole) if letter in "123456789" and i > 40)
    for damaged in (f"{whole[:digit]}7{whole[digit + 1 :]}", "{}", "[1", whole[:-20]):
        if damaged == whole:
            continue
        file.write_text(damaged)
        if name == "cost.json":
            one_line(ttt("compare", "r"), name)
        code, _, err = ttt(*RUN, *METHODS)
        assert code == 0, err
        assert ttt("compare", "r")[0] == 0
        json.loads(file.read_text())


def test_costs_of_another_run_are_refused(ttt, folders):
    shutil.copy(folders[0].path / "cost.json", folders[1].path / "cost.json")
    one_line(ttt("compare", "r"), "cost.json", "another run")


@pytest.mark.parametrize("field", ["started", "environment", "worker", "samples", "code_files"])
@pytest.mark.parametrize("gone", [True, False])
def test_every_field_of_the_manifest_is_covered(ttt, folders, field: str, gone: bool):
    file = folders[1].path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest.pop(field) if gone else manifest.update({field: "edited"})
    file.write_text(json.dumps(manifest))
    one_line(ttt("compare", "r"), "manifest.json", "checksum")
    code, _, err = ttt(*RUN, *METHODS)
    assert code == 0, err
    assert "made again" in err
    assert ttt("compare", "r")[0] == 0


def test_an_edited_number_of_chunks_is_an_edited_card(ttt, folders):
    file = folders[1].path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["card"]["method"]["chunks"] = 2
    file.write_text(json.dumps(manifest))
    one_line(ttt("compare", "r"), "method.chunks was edited")


def test_a_lost_manifest_is_made_again(ttt, folders):
    (folders[1].path / "manifest.json").unlink()
    code, _, err = ttt(*RUN, *METHODS)
    assert code == 0, err
    assert "manifest.json is missing; it is made again" in err
    assert ttt("compare", "r")[0] == 0


@pytest.mark.parametrize("file", ["manifest.json", "cost.json", "chunks/000001.parquet"])
def test_a_pipe_or_an_endless_file_is_not_read(ttt, folders, file: str):
    path = folders[1].path / file
    for make in (os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
        path.unlink()
        make(path)
        one_line(ttt("compare", "r"), path.name)
    code, _, err = ttt(*RUN, *METHODS)
    assert code == 0, err


def test_the_later_of_two_different_commands_ends(ttt, folders):
    """The card in the folder is read again before a chunk is written."""
    folder = folders[1]
    records = folder.read_chunk(0, folder.card().key)
    with pytest.raises(Exception, match="holds another run by now"):
        folder.write_chunk(0, records, folders[0].card().key)
    with pytest.raises(Exception, match="holds another run by now"):
        folder.begin(folders[0].card(), {})


def test_fresh_starts_anew_and_keeps_the_old_run_beside(ttt, folders):
    before = folders[1].path / "manifest.json"
    text = before.read_text()
    code, _, err = ttt(*RUN, *METHODS[2:], "--fresh")
    assert code == 0, err
    kept = folders[1].path.with_name("apm.1")
    assert str(kept) in err
    assert (kept / "manifest.json").read_text() == text
    # Nothing of the old run is continued.
    assert "continues with" not in err
    old, new = (set(path.glob("chunks/*")) for path in (kept, folders[1].path))
    assert len(old) == len(new) == 3


@pytest.mark.parametrize(
    "output", ["file/below", "x" * 300, "a/" + "y" * 300], ids=["below a file", "long", "long part"]
)
def test_an_output_that_cannot_be_written_is_refused_before_loading(ttt, output: str):
    Path("file").write_text("")
    code, out, err = ttt("run", "-m", "clip-zero-shot", "-d", "cifar10-c-mini", "-o", output)
    assert (code, out) == (2, "")
    assert "cannot write" in err
    assert err.count("\n") == 1
