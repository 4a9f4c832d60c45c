"""A run is scored in one pass over its chunks, and no more than a few of them are in memory."""

import gc
import importlib
import io
import json
import sys
import threading
import types
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.run_folders import ABOUT, COST, METHOD, PROTOCOL, write_run
from tests.test_metrics import records
from ttt_bench import MetricSpec, registered
from ttt_bench.api.records import MissingLogitsError, Records
from ttt_bench.compare.read import read_runs
from ttt_bench.metrics import scoring
from ttt_bench.metrics.scoring import Scores, score_parts
from ttt_bench.runs import arrow, parts
from ttt_bench.runs.card import Card, samples_digest
from ttt_bench.runs.folder import RunFolder
from ttt_bench.runs.parts import Part

CLASSES = 7


def cut(whole: Records, size: int) -> list[Part]:
    """Parts of so many records each, which are read whenever they are called."""
    starts = range(0, len(whole), size)
    return [lambda start=start: whole.between(start, start + size) for start in starts]


def counted(parts: list[Part]) -> tuple[list[Part], list[Records]]:
    """Return the same parts, and a list that gets what each reading of one returns."""
    reads: list[Records] = []

    def noted(part: Part) -> Part:
        def read() -> Records:
            reads.append(part())
            return reads[-1]

        return read

    return [noted(part) for part in parts], reads


def score_with(
    monkeypatch: pytest.MonkeyPatch, read: list[Part], per_sample: bool, **metrics: Any
) -> Scores:
    """The scores of these parts, with these functions as further metrics."""
    module = types.ModuleType("metrics_of_a_test")
    for name, metric in metrics.items():
        setattr(module, name, metric)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    specs = [
        MetricSpec(name=name, summary="", code=f"{module.__name__}:{name}", per_sample=per_sample)
        for name in metrics
    ]
    with registered(metrics=specs):
        return score_parts(read, CLASSES)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("together", [1, 100, 2**18])
def test_every_metric_is_the_same_however_a_run_is_cut(monkeypatch, size: int, together: int):
    whole = records(200)
    expected = score_parts([lambda: whole], CLASSES)
    monkeypatch.setattr(scoring, "TOGETHER", together)
    scores = score_parts(cut(whole, size), CLASSES)
    assert not scores.failed
    assert {*scores.values} >= {"top1", "top5", "nll", "brier", "ece", "groups", "step_top1"}
    assert scores.values == expected.values
    assert scores.records.logits is None
    assert scores.records.sample_id == whole.sample_id
    np.testing.assert_array_equal(scores.records.confidence, whole.confidence)


def test_a_metric_for_each_sample_sees_every_sample_once_with_its_logits(monkeypatch):
    whole = records(100)
    seen: list[Records] = []

    def margin(given: Records) -> np.ndarray:
        seen.append(given)
        ordered = np.sort(given.required_logits(), axis=1)
        return ordered[:, -1] - ordered[:, -2]

    monkeypatch.setattr(scoring, "TOGETHER", 10 * CLASSES)
    scores = score_with(monkeypatch, cut(whole, 25), True, margin=margin)
    ordered = np.sort(whole.required_logits(), axis=1)
    assert scores.values["margin"] == pytest.approx((ordered[:, -1] - ordered[:, -2]).mean())
    assert max(map(len, seen)) <= 25
    assert sorted(name for given in seen for name in given.sample_id) == sorted(whole.sample_id)


def test_a_metric_of_booleans_is_a_share_in_percent(monkeypatch):
    whole = records(100)
    scores = score_with(monkeypatch, cut(whole, 30), True, right=lambda given: given.correct)
    assert scores.values["right"] == scores.values["top1"]


def test_a_metric_of_the_run_sees_whole_columns_and_no_logits(monkeypatch):
    whole = records(100)
    seen: list[Records] = []
    score_with(monkeypatch, cut(whole, 30), False, last=lambda given: seen.append(given))
    (given,) = seen
    assert given.logits is None
    assert given.classes == CLASSES
    np.testing.assert_array_equal(given.label, whole.label)
    np.testing.assert_array_equal(given.step_predictions, whole.step_predictions)


def test_a_metric_that_takes_all_logits_gets_them_read_once(monkeypatch):
    whole = records(100)

    def greatest(given: Records) -> float:
        np.testing.assert_array_equal(given.required_logits(), whole.logits)
        return float(given.required_logits().max())

    read, reads = counted(cut(whole, 30))
    scores = score_with(monkeypatch, read, False, greatest=greatest, again=greatest)
    assert scores.values["greatest"] == scores.values["again"] == whole.required_logits().max()
    # Once for all metrics, once more for those two.
    assert len(reads) == 2 * len(read)
    with pytest.raises(MissingLogitsError):
        scores.records.required_logits()


def test_only_a_few_chunks_are_in_memory_at_a_time(monkeypatch):
    """The logits of every part are counted while they live."""
    lock, alive, most = threading.Lock(), 0, 0
    n, classes = 64, 64
    monkeypatch.setattr(scoring, "TOGETHER", n * classes)

    def freed() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def part() -> Records:
        nonlocal alive, most
        logits = np.zeros((n, classes), np.float32)
        weakref.finalize(logits, freed)
        with lock:
            alive += 1
            most = max(most, alive)
        zeros = np.zeros(n, dtype=int)
        return Records(
            [f"{row}" for row in range(n)], [None] * n, zeros, zeros, np.ones(n, np.float32), None,
            None, logits, 1.0,
        )  # fmt: skip

    scores = score_parts([part] * 100, classes)
    gc.collect()
    assert len(scores.records) == 100 * n
    assert scores.values["nll"] == pytest.approx(np.log(classes))
    # A thread reads the next part while it drops the last one.
    assert most <= 2 * parts.THREADS
    assert alive == 0


FAULTS = {
    "number": (
        lambda given: 1.0,
        "gave a value of type float; it must give an array of one number",
    ),
    "short": (lambda given: given.confidence[1:], "gave an array of shape"),
    "matrix": (lambda given: given.required_logits(), "gave an array of shape"),
    "text": (lambda given: np.array(given.sample_id), "and type <U"),
    "nan": (lambda given: np.full(len(given), np.nan), "gave a number that is not finite"),
    "late": (
        lambda given: given.confidence / np.array([int(name != "99") for name in given.sample_id]),
        "gave a number that is not finite",
    ),
    "raises": (
        lambda given: given.confidence if "99" not in given.sample_id else 1 / 0,
        "failed: ZeroDivisionError",
    ),
    "sorts": (lambda given: given.label.sort(), "failed: ValueError"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_metric_for_each_sample_that_misbehaves_is_left_out_alone(monkeypatch, fault: str):
    metric, text = FAULTS[fault]
    whole = records(100)
    expected = score_parts(cut(whole, 30), CLASSES).values
    scores = score_with(monkeypatch, cut(whole, 30), True, bad=metric)
    assert text in str(scores.failed["bad"])
    assert scores.values == expected


def test_records_without_logits_lack_the_metrics_that_need_them():
    bare = replace(records(40), logits=None, classes=None)
    scores = score_parts(cut(bare, 10), CLASSES)
    assert {*scores.failed} == {"top5", "nll", "brier"}
    assert all("needs logits" in str(error) for error in scores.failed.values())
    assert scores.records.classes == CLASSES


def test_equal_names_of_two_runs_are_kept_once(tmp_path: Path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", method={**METHOD, "method": "tpt"})
    first, second = (run.records for run in read_runs([tmp_path]))
    for name in ("sample_id", "group", "image_digest"):
        assert getattr(first, name) is getattr(second, name)
    assert first.label is not second.label


def test_a_missing_chunk_is_told_before_any_is_read(tmp_path: Path):
    write_run(tmp_path)
    folder = RunFolder(tmp_path)
    folder.chunk_path(0).unlink()
    with pytest.raises(Exception, match=r"000000\.parquet is missing"):
        folder.parts(folder.card())


def test_rows_of_logits_that_are_packed_into_one_are_not_unpacked_beyond_the_bound():
    """One row of logits in a dictionary stands for a million of them."""
    width, n = 4 * 1000, 100_000
    table = arrow.to_table(records(1))
    wide = pa.array([b"\0" * width] * n, pa.binary(width))
    columns = [pa.nulls(n, field.type) for field in table.schema][:-1]
    packed = io.BytesIO()
    names = table.column_names
    pq.write_table(pa.table([*columns, wide], names=names), packed, use_dictionary=True)
    content = packed.getvalue()
    assert len(content) < width * n / 100
    with pytest.raises(ValueError, match="too large"):
        arrow.opened_table(content, width * n - 1)


def write_long_run(path: Path, n: int, size: int) -> Records:
    """Write a finished run of n samples in chunks of this size."""
    whole = records(n, classes=3, n_steps=2)
    card = Card(
        {**PROTOCOL, "n": n, "samples": samples_digest(whole.sample_id)},
        {**METHOD, "chunks": len(range(0, n, size))},
    )
    folder = RunFolder(path)
    folder.begin(card, ABOUT)
    for number, part in enumerate(cut(whole, size)):
        folder.write_chunk(number, replace(part(), seconds=0.1), card.key)
    folder.write_json("cost.json", COST, card.key)
    return whole


@pytest.mark.parametrize("logits", [True, False])
def test_an_export_in_parts_is_read_as_the_run(ttt, tmp_path: Path, monkeypatch, logits: bool):
    monkeypatch.setattr("ttt_bench.runs.export.PART_SAMPLES", 20)
    whole = write_long_run(tmp_path / "run", 90, 7)
    words = ("export", "run", "-o", "run.zip", *(["--logits"] if logits else []))
    assert ttt(*words)[0] == 0
    rows = [
        json.loads(ttt("compare", path, "--format", "json")[1])["rows"][0]
        for path in ("run", "run.zip")
    ]
    lost = set() if logits else {"top5", "nll", "brier"}
    folder, export = ({k: v for k, v in row.items() if k not in lost} for row in rows)
    places = {"path": "", "paths": []}
    assert {**folder, **places} == {**export, **places}
    (run,) = read_runs([Path("run.zip")])
    read = run.files.parts(run.card)
    # Chunks of 7 are joined until there are 20.
    assert [len(part()) for part in read] == [21, 21, 21, 21, 6]
    assert run.records.sample_id == whole.sample_id


def test_chosen_rows_are_read_from_the_chunks_that_hold_them():
    whole = records(50)
    read, reads = counted(cut(whole, 8))
    lengths = [8] * 6 + [2]
    chosen = parts.chosen_rows(read, lengths, [0, 7, 8, 49])
    assert chosen.sample_id == ["0", "7", "8", "49"]
    np.testing.assert_array_equal(chosen.logits, whole.required_logits()[[0, 7, 8, 49]])
    assert len(reads) == 3


def test_the_metrics_of_the_page_about_metrics_work(monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "writing-a-metric.md"
    assert '--8<-- "tests/third_party/my_metrics.py"' in page.read_text("utf-8")
    monkeypatch.syspath_prepend(Path(__file__).parent / "third_party")
    specs = importlib.import_module("my_metrics").ttt_bench_metrics()
    whole = replace(records(60), group=["fog", "snow", None] * 20)
    with registered(metrics=specs):
        scores = score_parts(cut(whole, 25), CLASSES)
    p = whole.probabilities
    assert scores.values["entropy"] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean())
    groups = scores.values["groups"]
    assert scores.values["worst_group"] == min(groups["fog"], groups["snow"])
