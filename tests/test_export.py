"""`ttt-bench export`: runs in one file, read as their folders are, and refused where it is not."""

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.run_folders import ABOUT, COST, METHOD, PROTOCOL, N, write_run
from tests.test_bad_input import one_line
from ttt_bench.api.records import Records
from ttt_bench.runs import export, export_zip
from ttt_bench.runs.archive import exported_runs
from ttt_bench.runs.card import Card, digest, samples_digest
from ttt_bench.runs.checksum import sealed
from ttt_bench.runs.export import write_export
from ttt_bench.runs.folder import RunFolder

FILE = "results.zip"
Contents = dict[str, bytes]


@pytest.fixture
def folders(ttt) -> list[RunFolder]:
    """Two finished runs of one table, below `runs`."""
    write_run(Path("runs/apm"))
    write_run(Path("runs/tpt"), method={**METHOD, "method": "tpt", "config": {"lr": 1.0}})
    return [RunFolder(Path("runs/apm")), RunFolder(Path("runs/tpt"))]


@pytest.fixture
def contents(ttt, folders: list[RunFolder]) -> Contents:
    """The members of an exported file of both runs."""
    assert ttt("export", "runs", "-o", FILE)[0] == 0
    with zipfile.ZipFile(FILE) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def write_zip(members: Contents, packing: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(FILE, "w", packing) as zipped:
        for name, content in members.items():
            zipped.writestr(zipfile.ZipInfo(name), content, packing)


def without_paths(value: object) -> object:
    """What `compare --format json` printed, without the places of the runs."""
    if isinstance(value, dict):
        # The rows of an average are paths by dataset.
        places = ("path", "paths", *(("rows",) if "mean" in value else ()))
        return {name: without_paths(one) for name, one in value.items() if name not in places}
    return [without_paths(one) for one in value] if isinstance(value, list) else value


def test_an_export_with_logits_compares_as_the_folders_do(ttt, folders):
    code, out, err = ttt("export", "runs", "-o", FILE, "--logits")
    assert (code, out.split(":")[0]) == (0, FILE), err
    code, from_file, err = ttt("compare", FILE, "--format", "json")
    assert code == 0, err
    assert err == ""
    from_folders = ttt("compare", "runs", "--format", "json")[1]
    assert without_paths(json.loads(from_file)) == without_paths(json.loads(from_folders))


def test_without_logits_every_other_metric_is_the_same_and_the_lack_is_told(ttt, contents):
    code, from_file, err = ttt("compare", FILE, "--format", "json")
    assert code == 0, err
    folders = json.loads(ttt("compare", "runs", "--format", "json")[1])["rows"]
    for row, whole in zip(json.loads(from_file)["rows"], folders, strict=True):
        lost = set(whole) - set(row)
        assert lost == {"top5", "nll", "brier"}
        assert all(f"metric {name} of plugin metrics needs logits" in err for name in lost)
        kept = {name: value for name, value in whole.items() if name in row}
        assert without_paths(row) == without_paths(kept)
    assert all(run.read_records().logits is None for run in exported_runs(Path(FILE)))
    assert "top-5 %" in ttt("compare", "runs")[1]
    assert "top-5 %" not in ttt("compare", FILE)[1]


@pytest.mark.parametrize("logits", [True, False])
def test_records_come_back_as_they_were(folders, logits: bool):
    write_export(Path(FILE), [(folder, {}) for folder in folders], logits)
    for run, folder in zip(exported_runs(Path(FILE)), folders, strict=True):
        back, before = run.read_records(), folder.read_records()
        assert run.manifest() == folder.manifest()
        for name, value in vars(before).items():
            if name in ("logits", "classes") and not logits:
                assert getattr(back, name) is None
            else:
                np.testing.assert_array_equal(getattr(back, name), value)


def test_the_same_runs_give_the_same_file(ttt, contents):
    before = Path(FILE).read_bytes()
    assert ttt("export", "runs", "-o", FILE)[0] == 0
    assert Path(FILE).read_bytes() == before


def test_an_export_of_an_export_is_the_same_file(ttt, folders):
    assert ttt("export", "runs", "-o", FILE, "--logits")[0] == 0
    assert ttt("export", FILE, "-o", "again.zip", "--logits")[0] == 0
    assert Path("again.zip").read_bytes() == Path(FILE).read_bytes()
    assert ttt("export", FILE, "-o", "small.zip")[0] == 0
    one_line(ttt("export", "small.zip", "-o", "large.zip", "--logits"), "without logits")
    assert not Path("large.zip").exists()


def test_report_plot_and_show_take_the_file(ttt, contents):
    for words in (("report", FILE), ("plot", FILE, "--figure", "pareto"), ("show", FILE)):
        code, out, err = ttt(*words)
        assert code == 0, err
    keys = [RunFolder(Path("runs") / name).card().key for name in ("apm", "tpt")]
    assert all(f"run {FILE}!{key}" in out for key in keys)
    code, out, _ = ttt("show", f"{FILE}!{keys[1]}")
    assert code == 0
    assert keys[1] in out
    assert keys[0] not in out
    one_line(ttt("compare", f"{FILE}!0123456789"), "holds no run", keys[0])


def test_a_folder_of_exported_files_is_refused_by_the_name_of_one(ttt, contents):
    Path("received").mkdir()
    Path(FILE).rename(f"received/{FILE}")
    one_line(ttt("compare", "received"), "name the exported files in it", f"received/{FILE}")


def test_two_runs_of_one_card_are_both_kept(ttt, folders):
    write_run(Path("runs/apm-again"))
    assert ttt("export", "runs", "-o", FILE)[0] == 0
    key = folders[0].card().key
    names = [run.name for run in exported_runs(Path(FILE))]
    assert sorted(names) == sorted([key, f"{key}-2", folders[1].card().key])
    assert len(json.loads(ttt("compare", FILE, "--format", "json")[1])["rows"]) == 3


def test_an_unfinished_run_is_named_and_left_out(ttt, folders):
    folders[0].chunk_path(0).unlink()
    code, _, err = ttt("export", "runs", "-o", FILE)
    assert code == 0
    assert "runs/apm" in err
    assert [run.name for run in exported_runs(Path(FILE))] == [folders[1].card().key]


@pytest.mark.parametrize("member", export_zip.FILES)
@pytest.mark.parametrize("foreign", [False, True])
def test_an_edited_or_swapped_file_is_found(ttt, contents, member: str, foreign: bool):
    first, second = dict.fromkeys(name.partition("/")[0] for name in contents)
    name = f"{first}/{member}"
    if foreign:
        contents[name] = contents[f"{second}/{member}"]
    else:
        place = contents[name].rindex(b"1", 0, len(contents[name]) // 2)
        contents[name] = contents[name][:place] + b"2" + contents[name][place + 1 :]
    write_zip(contents)
    if member == export_zip.SUMMARY_FILE:
        # Nothing is read from it: metrics are made of the records.
        with pytest.raises(Exception, match=f"{member} was edited or damaged"):
            exported_runs(Path(FILE))[0].read_json(member, first)
    else:
        one_line(ttt("compare", FILE), FILE, first)


def test_flipped_bytes_of_the_file_never_give_another_table(ttt, contents):
    whole, sound = Path(FILE).read_bytes(), ttt("compare", FILE, "--format", "json")[1]
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(0, 8))
        Path(FILE).write_bytes(damaged)
        code, out, err = ttt("compare", FILE, "--format", "json")
        assert "Traceback" not in err
        assert code == 2 or out == sound


def test_a_chunk_of_the_run_is_not_taken_for_all_records(ttt, contents, folders):
    name = f"{folders[0].card().key}/{export_zip.RECORDS_FILE}"
    contents[name] = folders[0].chunk_path(0).read_bytes()
    write_zip(contents)
    one_line(ttt("compare", FILE), export_zip.RECORDS_FILE, "checksum")


@pytest.mark.parametrize(
    "name",
    ["../manifest.json", "/etc/passwd", "0123456789/extra.txt", "0123456789/../manifest.json",
     "0123456789\\manifest.json", "0123456789/manifest.json\0.txt", "0123456789/",
     "0123456789-0/manifest.json", "ABCDEF0123/cost.json", "\x1b[31m/cost.json",
     "0123456789/cost.json\n"],
)  # fmt: skip
def test_an_unknown_name_is_refused(ttt, contents, tmp_path: Path, name: str):
    write_zip(contents)
    # Python's writer cuts names at a NUL, so the raw bytes are put there afterwards.
    placeholder = "x" * len(name.encode())
    write_zip({**contents, placeholder: b"{}"})
    raw = Path(FILE).read_bytes()
    Path(FILE).write_bytes(raw.replace(placeholder.encode(), name.encode()))
    before = sorted(tmp_path.rglob("*"))
    result = ttt("compare", FILE)
    one_line(result, FILE, "unknown file")
    assert "\x1b" not in result[2]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(ttt, contents):
    name = next(iter(contents))
    with zipfile.ZipFile(FILE, "a") as zipped:
        zipped.writestr(name, b"{}")
    one_line(ttt("compare", FILE), "twice")


def test_a_missing_member_is_named(ttt, contents):
    name = next(name for name in contents if name.endswith(export_zip.COST_FILE))
    del contents[name]
    write_zip(contents)
    one_line(ttt("compare", FILE), name, "missing")


def test_a_packing_of_another_kind_is_refused(ttt, contents):
    write_zip(contents, zipfile.ZIP_BZIP2)
    one_line(ttt("compare", FILE), "packed in another way")


def peak_of(call: Callable[[], object]) -> int:
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_file_that_inflates_beyond_the_bound_is_refused_unread(ttt, contents):
    name = next(name for name in contents if name.endswith("manifest.json"))
    contents[name] = b" " * (export_zip.LARGEST_JSON + 1)
    write_zip(contents)
    del contents
    assert Path(FILE).stat().st_size < 100_000
    peak = peak_of(lambda: one_line(ttt("compare", FILE), name, "inflates to"))
    assert peak < export_zip.LARGEST_JSON


def test_a_size_that_is_understated_is_an_error_not_more_bytes(ttt, contents):
    name = next(name for name in contents if name.endswith("manifest.json"))
    size = 15_000_000
    contents[name] = b" " * size
    write_zip(contents)
    raw = Path(FILE).read_bytes()
    assert raw.count(struct.pack("<I", size)) == 2
    Path(FILE).write_bytes(raw.replace(struct.pack("<I", size), struct.pack("<I", 100)))
    peak = peak_of(lambda: one_line(ttt("compare", FILE), FILE, "damaged"))
    assert peak < size


def test_many_files_that_are_small_alone_are_refused(ttt, contents, monkeypatch):
    total = sum(map(len, contents.values()))
    monkeypatch.setattr(export_zip, "LARGEST_INFLATED", total - 1)
    one_line(ttt("compare", FILE), f"inflates to {total:,}")


def test_more_files_than_an_export_has_are_refused_before_they_are_listed(ttt):
    with zipfile.ZipFile(FILE, "w") as zipped:
        for number in range(15_000):
            zipped.writestr(f"{number:050d}", b"")
    peak = peak_of(lambda: one_line(ttt("compare", FILE), "too many files"))
    assert peak < 3_000_000


def test_the_form_of_64_bits_is_refused(ttt, contents):
    raw = Path(FILE).read_bytes()
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(raw) - 22, 1)
    Path(FILE).write_bytes(raw[:-22] + locator + raw[-22:])
    one_line(ttt("compare", FILE), "64-bit")


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"no zip file at all" * 10, b"PK\5\6" + b"\0" * 18]
)
def test_what_is_no_export_is_one_line(ttt, content: bytes):
    Path(FILE).write_bytes(content)
    for words in (("compare", FILE), ("report", FILE), ("show", FILE), ("plot", FILE)):
        one_line(ttt(*words), FILE, "ttt-bench export")


def test_records_of_more_rows_than_the_card_has_samples_are_not_read(ttt, contents, folders):
    key = folders[0].card().key
    table = pq.read_table(io.BytesIO(contents[f"{key}/{export_zip.RECORDS_FILE}"]))
    packed = io.BytesIO()
    pq.write_table(table.take([0] * (N + 1)).replace_schema_metadata(table.schema.metadata), packed)
    contents[f"{key}/{export_zip.RECORDS_FILE}"] = packed.getvalue()
    write_zip(contents)
    one_line(ttt("compare", FILE), f"{N + 1} rows for {N} samples")


def test_records_that_declare_too_many_values_are_not_read(ttt, contents, folders, monkeypatch):
    limit = 50_000
    monkeypatch.setattr(export_zip, "LARGEST_RECORDS", limit)
    assert ttt("compare", FILE)[0] == 0
    key = folders[0].card().key
    table = pq.read_table(io.BytesIO(contents[f"{key}/{export_zip.RECORDS_FILE}"]))
    steps = pa.array([[1] * limit] * N, pa.list_(pa.int32()))
    place = table.schema.get_field_index("step_predictions")
    packed = io.BytesIO()
    grown = table.set_column(
        place, table.schema.field(place), pa.array(steps, pa.list_(pa.int32()))
    )
    pq.write_table(grown, packed, compression="zstd")
    contents[f"{key}/{export_zip.RECORDS_FILE}"] = packed.getvalue()
    assert len(packed.getvalue()) < limit / 4
    write_zip(contents)
    one_line(ttt("compare", FILE), "too large")


def test_a_run_under_the_name_of_another_is_refused(ttt, contents, folders):
    first = folders[0].card().key
    renamed = {name.replace(first, "0123456789"): content for name, content in contents.items()}
    write_zip(renamed)
    one_line(ttt("compare", FILE), "0123456789", first)


def test_a_summary_that_was_sealed_anew_changes_no_number(ttt, contents, folders):
    sound = ttt("compare", FILE, "--format", "json")[1]
    key = folders[0].card().key
    name = f"{key}/{export_zip.SUMMARY_FILE}"
    summary = {**json.loads(contents[name]), "top1": 100.0}
    contents[name] = json.dumps(sealed(summary, key)).encode()
    write_zip(contents)
    assert ttt("compare", FILE, "--format", "json")[1] == sound


def test_an_export_is_written_whole_or_not_at_all(ttt, folders, monkeypatch):
    write_run(Path("runs/apm-again"))
    Path(FILE).write_text("what was there before")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_pack", full_disk)
    one_line(ttt("export", "runs", "-o", FILE), FILE, "No space left")
    assert Path(FILE).read_text() == "what was there before"
    assert sorted(path.name for path in Path().iterdir()) == [FILE, "runs"]


def test_a_name_without_zip_is_refused_and_so_is_a_folder_that_is_none(ttt, folders):
    one_line(ttt("export", "runs", "-o", "results.tar"), "results.tar", ".zip")
    one_line(ttt("export", "nowhere", "-o", FILE), "nowhere")


def test_samples_of_20_steps_take_less_than_100_bytes_each(ttt):
    """At random they take most; 50,000 then stay below 5 MB."""
    n, classes, steps = 5000, 1000, 20
    rng = np.random.default_rng(0)
    ids = [rng.bytes(8).hex() for _ in range(n)]
    card = Card(
        {**PROTOCOL, "n": n, "samples": samples_digest(ids)}, {**METHOD, "config": {"steps": steps}}
    )
    folder = RunFolder(Path("large"))
    folder.begin(card, ABOUT)
    trajectory = rng.integers(0, classes, (n, steps))
    records = Records(
        ids, ["fog"] * n, rng.integers(0, classes, n), trajectory[:, -1],
        rng.random(n).astype(np.float32), trajectory[:, 0], trajectory,
        rng.random((n, 3)).astype(np.float32), 1.0, [digest(name)[:32] for name in ids],
    )  # fmt: skip
    folder.write_chunk(0, records, card.key)
    folder.write_json("cost.json", COST, card.key)
    assert ttt("export", "large", "-o", FILE)[0] == 0
    assert Path(FILE).stat().st_size < 100 * n
