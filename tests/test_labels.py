"""Rows are called by the least that tells them apart, and no two are called the same."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.run_folders import METHOD, PROTOCOL
from ttt_bench.compare.labels import Named, labels, method_fields, shown
from ttt_bench.runs.card import Card


def row(method: str = "apm", **fields: Any) -> Named:
    """Return a row of a method part with these fields."""
    card = Card(PROTOCOL, {**METHOD, "method": method, **fields})
    return Named(method, method_fields(card), "runs/somewhere")


def of_config(**config: Any) -> Named:
    return row(config={"steps": 20, "lr": 0.001, "grid": 8, **config})


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([of_config()], ["apm"]),
        ([of_config(), row("tpt")], ["apm", "tpt"]),
        ([of_config(steps=5), of_config()], ["apm steps=5", "apm steps=20"]),
        (
            [of_config(steps=s, lr=lr) for s in (5, 20) for lr in (0.001, 0.01)],
            ["apm steps=5 lr=0.001", "apm steps=5 lr=0.01", "apm steps=20 lr=0.001",
             "apm steps=20 lr=0.01"],
        ),
        # What follows from the backbone is not said beside it.
        (
            [row(), row(backbone="b", weights="1", config={"steps": 3}, transform={"size": 8})],
            ["apm tiny-clip", "apm b"],
        ),
        ([row(), row(precision="bf16", dtype="bfloat16")], ["apm fp32", "apm bf16"]),
        (
            [row(stream={"name": name, "order": name}) for name in ("mixed", "grouped")],
            ["apm mixed", "apm grouped"],
        ),
        (
            [row(stream={"name": "mixed", "correlation": one}) for one in (None, 0.5)],
            ["apm correlation=none", "apm correlation=0.5"],
        ),
        # Either field would do; both would be too much.
        ([of_config(steps=1, lr=1.0), of_config(steps=2, lr=2.0)], ["apm steps=1", "apm steps=2"]),
        # A field that splits most is chosen first, and left out where the later ones say it all.
        (
            [of_config(steps=s, lr=lr) for s, lr in ((1, 1.0), (1, 2.0), (2, 3.0), (3, 3.0))],
            ["apm steps=1 lr=1", "apm steps=1 lr=2", "apm steps=2 lr=3", "apm steps=3 lr=3"],
        ),
        (
            [of_config(layers=None), of_config(layers=[4, 2]), of_config()],
            ["apm layers=none", "apm layers=[4,2]", "apm"],
        ),
    ],
    ids=lambda rows: rows[0] if isinstance(rows[0], str) else "",
)  # fmt: skip
def test_labels_say_the_least_that_tells_rows_apart(rows: list[Named], wanted: list[str]):
    assert labels(rows) == wanted


def test_copies_of_a_run_are_told_apart_by_their_folders():
    copies = [replace(row(), last=f"runs/{number}") for number in (1, 2)]
    assert labels(copies) == ["apm (runs/1)", "apm (runs/2)"]


def test_long_values_are_shown_as_digests():
    long = [["a photo of a {}."] * number for number in (8, 9)]
    assert [len(text) for text in map(shown, long)] == [8, 8]
    assert len({*map(shown, long)}) == 2
    assert shown("two words") != "two words"


VALUES = st.one_of(st.integers(0, 2), st.sampled_from(["0", "x y", "", None, 0.1, [1], {}]))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["apm", "apm steps=1", "tpt"]),
            st.dictionaries(st.sampled_from(["steps", "lr", "k"]), VALUES),
        ),
        max_size=8,
    )
)
def test_no_two_labels_are_equal(parts: list[tuple[str, dict[str, Any]]]):
    rows = [
        replace(row(method, config=config), last=str(number))
        for number, (method, config) in enumerate(parts)
    ]
    assert len({*labels(rows)}) == len(rows)
