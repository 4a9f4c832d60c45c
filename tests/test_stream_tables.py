"""What tables, metrics and figures say of online runs."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.streaming_methods import SPECS
from ttt_bench import Adapter, AdapterSpec, Prediction
from ttt_bench.api.records import Records
from ttt_bench.metrics.streams import (
    collapsed_streams,
    first_tenth,
    last_tenth,
    revisited_change,
    revisited_top1,
)
from ttt_bench.registry import registered

N, CLASSES = 40, 10


def records(predictions: np.ndarray | None = None, streams: int = 1) -> Records:
    """Records whose rows are not in the order of their streams, of `streams` equal streams."""
    draw = np.random.default_rng(0)
    each = N // streams
    label = np.tile(np.arange(CLASSES), N // CLASSES)
    logits = draw.normal(size=(N, CLASSES)).astype(np.float32)
    whole = Records(
        sample_id=[f"{number:016x}" for number in range(N)],
        group=[None] * N,
        label=label,
        prediction=label.copy() if predictions is None else predictions,
        confidence=np.full(N, 0.5, np.float32),
        unadapted_prediction=None,
        step_predictions=None,
        logits=logits,
        seconds=1.0,
        stream=[f"s{number // each}" for number in range(N)],
        position=np.tile(np.arange(each, dtype=np.int32), streams),
    )
    return whole.rows(draw.permutation(N).tolist())


class OneClass(Adapter):
    """Predicts the first class, whatever comes."""

    Config = SPECS[0].load().Config

    def adapt(self, samples, rngs):
        features = self.task.encode_image(samples)
        scores = self.task.logits(features)
        scores[:, 0] += 1000
        return [Prediction(one) for one in scores]


COLLAPSING = AdapterSpec(
    name="one-class", summary="", code="tests.test_stream_tables:OneClass", kind="stream"
)


@pytest.fixture(autouse=True)
def methods() -> Iterator[None]:
    with registered(adapters=[*SPECS, COLLAPSING]):
        yield


def test_the_first_and_last_tenth_are_by_place_in_each_stream():
    label = np.tile(np.arange(CLASSES), N // CLASSES)
    wrong_at_the_end = np.where(np.arange(N) < N - 4, label, (label + 1) % CLASSES)
    assert first_tenth(records(wrong_at_the_end)) == 100
    assert last_tenth(records(wrong_at_the_end)) == 0
    # Two streams of 20: a tenth is two samples of each, and the first stream ends well.
    assert last_tenth(records(wrong_at_the_end, streams=2)) == 50
    # More streams than samples of a tenth: one sample of each.
    assert last_tenth(records(wrong_at_the_end, streams=8)) == 100 * 7 / 8
    episodic = replace(records(), stream=None, position=None)
    assert (first_tenth(episodic), last_tenth(episodic)) == (None, None)


def test_a_revisit_is_compared_with_the_first_visit_of_its_samples():
    whole = records()
    chosen = whole.rows(range(8))
    forgotten = replace(chosen, prediction=np.where(np.arange(8) < 2, chosen.label, 99))
    again = replace(whole, revisited=forgotten)
    assert revisited_top1(again) == 25
    assert revisited_change(again) == -75
    assert (revisited_top1(whole), revisited_change(whole)) == (None, None)


def test_a_collapse_is_predictions_of_fewer_classes_than_the_labels_ask_for():
    assert collapsed_streams(records()) == []
    one = records(np.zeros(N, int))
    assert collapsed_streams(one) == ["s0"]
    # Runs of one class ask for one class.
    assert collapsed_streams(replace(one, label=np.zeros(N, int))) == []
    # A tenth of one sample tells nothing.
    assert collapsed_streams(records(np.zeros(N, int), streams=8)) == []


def test_every_place_is_kept_by_selections_and_in_the_digest():
    whole = records()
    order = whole.sample_id[::-1]
    turned = whole.in_order_of(order)
    assert turned.position is not None
    assert turned.position.tolist() == whole.position[::-1].tolist()
    assert turned.stream == whole.stream[::-1]
    moved = replace(whole, position=np.roll(whole.position, 1))
    renamed = replace(whole, stream=["other"] * N)
    assert len({one.digest() for one in (whole, moved, renamed)}) == 3
    assert replace(whole, stream=None, position=None).digest() != whole.digest()


def test_runs_say_their_stream_everywhere(ttt):
    words = ("run", "-d", "cifar10-c-mini", "--device", "cpu", "--limit", 96, "-o", "runs")
    stream = ("--stream", "continual", "--revisit", "--correlation", 0.5)
    code, out, err = ttt(
        *words, *stream, "-m", "drifting", "-m", "clip-zero-shot", "--format", "json"
    )
    assert code == 0, err
    online, episodic = json.loads(out)["runs"]
    assert (online["stream"], online["correlation"], online["batch_size"]) == ("continual", 0.5, 8)
    assert online["revisited"] == 6
    assert isinstance(online["revisited_top1"], float)
    assert online["n"] == episodic["n"] == 96
    assert "stream" not in episodic
    assert episodic["first_tenth"] is None
    for style in ("text", "markdown", "latex", "csv", "html"):
        code, out, err = ttt("compare", "runs", "--format", style)
        assert code == 0, err
        shown = " ".join(out.replace("\\", "").split())
        if style == "csv":
            assert ",drifting,cifar10-c-mini,96,0,tiny-clip,fp32,stream,continual,0.5,8," in out
            continue
        note = shown.partition("drifting: online: saw other test samples before")[2]
        assert "its batch of 8; continual:" in note, style
        assert "concentration 0.5" in note, style
        assert "drifting‡ (" not in shown
    assert ttt("export", "runs", "-o", "runs.zip")[0] == 0
    before, after = (
        json.loads(ttt("compare", where, "--format", "json")[1])["rows"]
        for where in ("runs", "runs.zip")
    )
    for row, exported in zip(before, after, strict=True):
        assert row["method"] == exported["method"]
        for name in ("top1", "first_tenth", "last_tenth", "revisited_top1", "revisited_change"):
            assert row[name] == exported[name]
    assert ttt("report", "runs", "-o", "page.html")[0] == 0
    page = Path("page.html").read_text("utf-8")
    assert "--stream continual --correlation 0.5 --revisit" in page
    assert "cifar10-c-mini, continual" in page
    code, out, err = ttt("verify", "runs/cifar10-c-mini/drifting", "--samples", 2)
    assert code == 0, err
    assert "2 equal" in out
    assert "the stream continual is run again from its start" in err


def test_a_collapse_is_named_at_the_end_of_the_run(ttt):
    code, _, err = ttt(
        "run", "-d", "cifar10-c-mini", "--device", "cpu", "--limit", 96, "-m", "one-class",
        "--stream", "mixed",
    )  # fmt: skip
    assert code == 0, err
    (line,) = [line for line in err.splitlines() if "collapsed" in line]
    assert line.startswith("one-class on cifar10-c-mini: it has collapsed")
    assert line.endswith("fall into one or two classes: mixed")
