"""The orders of samples that online methods adapt along."""

from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from PIL import Image

from ttt_bench import ClassSet, Dataset, Entry, UserError, load_dataset
from ttt_bench.runs.plan import make_plan
from ttt_bench.runs.streams import STREAMS, StreamSetting, make_streams

CLASSES = 10


class Severities(Dataset):
    """Two corruptions at five severities and clean images, 40 of each."""

    def __init__(self, argument: str = "", data_root: Path | None = None) -> None:
        self.name = "severities"
        self.classes = ClassSet(tuple(f"class {number}" for number in range(CLASSES)))
        groups = [
            "clean",
            *(f"{name}@{level}" for name in ("fog", "snow") for level in range(1, 6)),
        ]
        self.entries = [
            Entry(f"{group}/{number}", group, number % CLASSES)
            for group in groups
            for number in range(40)
        ]

    def open(self, index: int) -> Image.Image:
        return Image.new("RGB", (8, 8))

    def card(self) -> dict:
        return {"revision": "none", "corruption_source": None}


DATASET = Severities()
ALL = list(range(len(DATASET.entries)))


def order_of(name: str, correlation: float | None = None, seed: int = 0) -> list[int]:
    streams = make_streams(DATASET, ALL, StreamSetting(name, correlation), seed)
    return [index for stream in streams for part in stream.segments for index in part.order]


def groups_of(order: list[int]) -> list[str | None]:
    return [group for group, _ in groupby(DATASET.entries[index].group for index in order)]


def mean_run(order: list[int]) -> float:
    """The mean length of a run of one class."""
    return len(order) / len(list(groupby(DATASET.entries[index].label for index in order)))


@pytest.mark.parametrize("correlation", [None, 0.1])
@pytest.mark.parametrize("name", STREAMS)
def test_every_sample_comes_once_in_an_order_of_the_seed(name: str, correlation: float | None):
    order = order_of(name, correlation)
    assert sorted(order) == ALL
    assert order != ALL
    assert order == order_of(name, correlation)
    assert order != order_of(name, correlation, seed=1)


def test_grouped_begins_a_stream_for_each_group_and_continual_has_one():
    grouped = make_streams(DATASET, ALL, StreamSetting(), 0)
    assert [stream.name for stream in grouped] == list(
        dict.fromkeys(e.group for e in DATASET.entries)
    )
    (continual,) = make_streams(DATASET, ALL, StreamSetting("continual"), 0)
    assert [part.order for part in continual.segments] == [s.segments[0].order for s in grouped]


def test_gradual_rises_and_falls_within_each_corruption():
    levels = (1, 2, 3, 4, 5, 4, 3, 2, 1)
    expected = ["clean", *(f"{name}@{level}" for name in ("fog", "snow") for level in levels)]
    assert groups_of(order_of("gradual")) == expected
    assert Counter(map(DATASET.entries.__getitem__, order_of("gradual"))).most_common(1)[0][1] == 1


def test_mixed_has_every_group_in_its_first_tenth():
    assert set(groups_of(order_of("mixed")[:44])) == {entry.group for entry in DATASET.entries}


def test_a_smaller_concentration_gives_longer_runs_of_one_class():
    runs = [mean_run(order_of("mixed", D)) for D in (0.01, 0.1, 1.0, 100.0)]
    assert runs == sorted(runs, reverse=True)
    assert runs[0] > 3 * runs[-1]
    assert mean_run(order_of("mixed")) < 1.5 < runs[-1]
    # The extremes that can be typed.
    for concentration in (1e-300, 1e300):
        assert sorted(order_of("grouped", concentration)) == ALL


def test_samples_of_one_class_alone_keep_the_even_order():
    single = Severities()
    single.classes = ClassSet(("only",))
    single.entries = [Entry(entry.key, entry.group, 0) for entry in single.entries]
    (stream,) = make_streams(single, ALL, StreamSetting("mixed", 0.5), 0)
    (even,) = make_streams(single, ALL, StreamSetting("mixed"), 0)
    assert stream.segments[0].order == even.segments[0].order


def test_a_revisit_is_the_first_group_in_the_order_of_its_first_visit():
    for name, group in (("continual", "clean"), ("gradual", "clean")):
        (stream,) = make_streams(DATASET, ALL, StreamSetting(name, None, True), 0)
        assert stream.revisited is not None
        assert stream.revisited.order == stream.segments[0].order
        assert {DATASET.entries[index].group for index in stream.revisited.order} == {group}
    foggy = [index for index in ALL if DATASET.entries[index].group != "clean"]
    (stream,) = make_streams(DATASET, foggy, StreamSetting("gradual", None, True), 0)
    assert stream.revisited is not None
    assert len(stream.revisited.order) == len(set(stream.revisited.order)) == 40


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
@pytest.mark.parametrize("name", STREAMS)
def test_chunks_are_chains_of_whole_batches_with_the_places_of_their_samples(
    name: str, batch_size: int
):
    setting = StreamSetting(name, None, name == "continual")
    plan = make_plan(DATASET, None, "stream", 0, batch_size, setting=setting)
    assert plan.indices == ALL
    assert [chunk.number for chunk in plan.all_chunks] == list(range(len(plan.all_chunks)))
    last = {}
    for chunk in plan.all_chunks:
        flat = [index for batch in chunk.batches for index in batch]
        assert sorted(flat) == list(chunk.indices)
        assert len(flat) <= max(32, batch_size)
        assert all(1 <= len(batch) <= batch_size for batch in chunk.batches)
        before = last.get(chunk.stream)
        assert chunk.follows == (None if before is None else before.number)
        assert chunk.position == (0 if before is None else before.position + len(before.indices))
        assert before is None or before.followed
        last[chunk.stream] = chunk
    assert not any(chunk.followed for chunk in last.values())
    assert sum(len(chunk.indices) for chunk in plan.revisited) == 40 * (name == "continual")
    starts = plan.chain_starts
    assert len(set(starts)) == (11 if name == "grouped" else 1)


def test_batches_of_a_method_that_forgets_them_are_those_of_the_stream_without_chains():
    setting = StreamSetting("continual", None, True)
    stream = make_plan(DATASET, None, "stream", 0, 16, setting=setting)
    batch = make_plan(DATASET, None, "batch", 0, 16, setting=setting)
    assert [chunk.batches for chunk in batch.chunks] == [chunk.batches for chunk in stream.chunks]
    assert all(chunk.follows is None and not chunk.followed for chunk in batch.chunks)
    assert batch.revisited == ()
    assert batch.order != stream.order


def test_the_digest_of_the_order_tells_orders_and_batches_apart():
    digests = {
        make_plan(
            DATASET, None, "stream", seed, size, setting=StreamSetting(name, correlation)
        ).order
        for seed in (0, 1)
        for size in (8, 16)
        for name in STREAMS
        for correlation in (None, 0.1)
    }
    assert len(digests) == 2 * 2 * 4 * 2


def test_an_image_that_is_left_out_moves_no_other_place():
    whole = order_of("mixed")
    (stream,) = make_streams(DATASET, [i for i in ALL if i != 17], StreamSetting("mixed"), 0)
    assert list(stream.segments[0].order) == [index for index in whole if index != 17]


def test_one_severity_has_no_gradual_stream_and_one_group_no_other_than_grouped():
    dataset = load_dataset("cifar10-c-mini")
    with pytest.raises(UserError, match="has one severity of each"):
        make_streams(dataset, range(1920), StreamSetting("gradual"), 0)
    for name in STREAMS[1:]:
        with pytest.raises(UserError, match="needs several groups"):
            make_streams(DATASET, ALL[:40], StreamSetting(name), 0)
    (only,) = make_streams(DATASET, ALL[:40], StreamSetting(), 0)
    assert only.name == "clean"
