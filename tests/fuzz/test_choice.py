"""Which samples a limit takes, which outputs of a head are a dataset's, and what names find."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.values import outcome
from ttt_bench.api.class_set import IMAGENET_CLASSES, ClassSet
from ttt_bench.api.dataset import Entry, spread_sample
from ttt_bench.api.errors import UserError
from ttt_bench.api.specs import DatasetSpec
from ttt_bench.api.text import plain
from ttt_bench.datasets.corruptions import (
    SEVERITIES,
    SHORT_NAMES,
    CorruptedEntries,
    parse_selection,
)
from ttt_bench.datasets.imagenet import ImageNetA, ImageNetR, synsets, timm_list
from ttt_bench.registry import Catalog, PluginInfo

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def entries_of(groups: list[int]) -> list[Entry]:
    return [
        Entry(f"{group}/{place}", str(group), place % 3)
        for group, size in enumerate(groups)
        for place in range(size)
    ]


@given(sizes, st.integers(1, 500))
def test_a_limit_takes_exactly_so_many_in_order(groups: list[int], limit: int):
    entries = entries_of(groups)
    chosen = spread_sample(entries, limit)
    assert len(chosen) == min(limit, len(entries))
    assert chosen == sorted(set(chosen))
    assert chosen == spread_sample(list(entries), limit)
    assert spread_sample(entries, None) == list(range(len(entries)))


@given(sizes, st.integers(1, 500))
def test_a_limit_is_spread_over_groups_and_within_them(groups: list[int], limit: int):
    """Each group gets its share, rounded up or down, and from all of its length."""
    entries = entries_of(groups)
    chosen = spread_sample(entries, limit)
    taken = Counter(entries[index].group for index in chosen)
    for group, size in enumerate(groups):
        share = size * min(1, limit / len(entries))
        assert abs(taken[str(group)] - share) < 1
        places = [
            int(entries[i].key.split("/")[1]) for i in chosen if entries[i].group == str(group)
        ]
        if places:
            widest = int(np.ceil(size / len(places)))
            # Around the end as well: the first place of a group is shifted.
            gaps = np.diff([*places, places[0] + size])
            assert gaps.max() <= 2 * widest


@given(sizes, st.integers(1, 300), st.integers(1, 20))
def test_equal_groups_get_equal_shares(groups: list[int], limit: int, size: int):
    entries = entries_of([size] * len(groups))
    taken = Counter(entries[index].group for index in spread_sample(entries, limit))
    counts = [taken[str(group)] for group in range(len(groups))]
    assert max(counts) - min(counts) <= 1


def classes_at(indices: list[int]) -> ClassSet:
    return ClassSet(("",) * len(indices), imagenet_indices=tuple(indices))


subsets = st.lists(st.integers(0, IMAGENET_CLASSES - 1), unique=True, min_size=1, max_size=250)


@given(subsets, st.randoms(use_true_random=False))
def test_a_head_of_imagenet_gives_the_subset_in_the_datasets_order(subset: list[int], random):
    assert classes_at(subset).head_outputs("its", IMAGENET_CLASSES) == subset
    # Called in another order, the classes keep their outputs.
    order = random.sample(range(len(subset)), len(subset))
    shuffled = classes_at([subset[i] for i in order]).head_outputs("its", IMAGENET_CLASSES)
    scores = np.arange(IMAGENET_CLASSES) * 7 % 1000
    assert (scores[subset][order] == scores[shuffled]).all()


@given(st.integers(1, 1200), st.integers(1, 1200), st.none() | subsets)
def test_a_head_of_another_size_is_refused(outputs: int, classes: int, subset: list[int] | None):
    class_set = ClassSet(("",) * classes) if subset is None else classes_at(subset)
    classes = len(class_set)
    found = outcome(lambda: class_set.head_outputs("its", outputs))
    if isinstance(found, UserError):
        assert outputs != classes
        assert (subset is None) or outputs != IMAGENET_CLASSES
        assert str(outputs) in str(found)
    else:
        assert len(found) == classes
        assert len(set(found)) == classes
        assert all(0 <= output < outputs for output in found)


@pytest.mark.parametrize("kind", [ImageNetA, ImageNetR])
def test_the_published_subsets_are_subsets(kind):
    indices = [int(word) for word in timm_list(kind.spec.class_list)]
    assert len(set(indices)) == len(indices) == 200
    assert classes_at(indices).head_outputs("its", IMAGENET_CLASSES) == indices
    assert indices == sorted(indices)
    assert len(set(synsets())) == IMAGENET_CLASSES


conditions = st.lists(
    st.tuples(
        st.sampled_from(["", *SHORT_NAMES]), st.sampled_from(["", *(f"@{s}" for s in SEVERITIES)])
    ).map("".join),
    min_size=1,
    max_size=4,
).map(",".join)


@given(conditions, sizes)
def test_corrupted_entries_are_the_clean_ones_under_each_condition(
    argument: str, groups: list[int]
):
    if ",," in f",{argument}," and argument:
        return
    selection = parse_selection("imagenet-c", argument)
    clean = entries_of(groups)
    corrupted = CorruptedEntries(selection, clean)
    assert len(corrupted) == len(selection.conditions) * len(clean)
    assert [corrupted[i] for i in range(len(corrupted))] == list(corrupted)
    assert len({entry.key for entry in corrupted}) == len(corrupted)
    assert [e.label for e in corrupted] == [e.label for e in clean] * len(selection.conditions)
    assert len(set(selection.conditions)) == len(selection.conditions)


@given(st.text(max_size=20) | conditions)
def test_any_selection_of_corruptions(argument: str):
    selection = outcome(lambda: parse_selection("imagenet-c", argument))
    if not isinstance(selection, UserError):
        assert selection.conditions
        assert len(selection.groups) == len(selection.conditions)


@given(st.text(max_size=12), st.sampled_from(["", "PATH", "[PATH]"]), st.text(max_size=12))
def test_any_name_finds_its_spec_or_is_refused(name: str, argument: str, asked: str):
    catalog = Catalog("dataset", DatasetSpec)
    spec = DatasetSpec(
        name="mine", summary="", code="x:Y", argument=argument, source="", licence=""
    )
    catalog.add(catalog.validate([spec]), PluginInfo("p", "d", "1"))
    for typed in (name, f"mine:{asked}", f"mine{asked}"):
        found = outcome(lambda: catalog.find(typed))  # noqa: B023
        if not isinstance(found, UserError):
            assert found.spec is spec
            assert typed.partition(":")[0] == "mine"


@given(st.text())
def test_plain_text_is_one_line_that_keeps_what_can_be_seen(text: str):
    shown = plain(text)
    assert not set(shown) & set(map(chr, [*range(32), *range(127, 160), 0x2028, 0x202E]))
    assert plain(shown) == shown
    assert len(shown) >= len(text)
    shown.encode()
