"""Chunk files: what was saved comes back, and what was damaged is refused, never taken for it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.values import fields, json_values, outcome, strange_values
from ttt_bench.api.errors import UserError
from ttt_bench.api.records import Records
from ttt_bench.runs.arrow import from_table, joined, to_table
from ttt_bench.runs.card import Card
from ttt_bench.runs.folder import RunFolder

CARD = Card({"dataset": "any"}, {"method": "any", "chunks": 1})


def equal(one: Records, other: Records) -> bool:
    """Every value and every type of thing, the bits of floats included."""

    def bits(array: np.ndarray | None, kind: str) -> bytes | None:
        return None if array is None else array.astype(kind).tobytes() + repr(array.shape).encode()

    return (
        (one.sample_id, one.group, one.seconds) == (other.sample_id, other.group, other.seconds)
        and all(
            bits(getattr(one, name), "<i8") == bits(getattr(other, name), "<i8")
            for name in ("label", "prediction", "unadapted_prediction", "step_predictions")
        )
        and all(
            bits(getattr(one, name), "<f4") == bits(getattr(other, name), "<f4")
            for name in ("confidence", "logits")
        )
    )


@given(fields(finite=False))
def test_what_is_saved_comes_back(tmp_path: Path, drawn: dict[str, Any]):
    folder, saved = RunFolder(tmp_path), Records(**drawn)
    folder.begin(CARD, {})
    folder.write_chunk(0, saved, CARD.key)
    assert equal(folder.read_chunk(0, CARD.key, saved.sample_id), saved)


@given(fields(), st.integers(1, 5))
def test_chunks_are_joined_in_order(drawn: dict[str, Any], size: int):
    """However a run is cut into chunks, its records are the same."""
    whole = Records(**drawn)
    table = to_table(whole)
    parts = [from_table(table.slice(at, size)) for at in range(0, len(whole), size)]
    again = joined(parts)
    assert again.seconds == pytest.approx(whole.seconds * len(parts))
    assert equal(replace(again, seconds=whole.seconds), whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, Records]:
    """A chunk as runs save them, with every kind of value in it."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, 10)).astype(np.float32)
    saved = Records(
        sample_id=[f"{number:016x}" for number in range(8)],
        group=["fog", "fog", None, "é", "snow", "snow", "", "a/b"],
        label=rng.integers(0, 10, 8),
        prediction=logits.argmax(1),
        confidence=rng.random(8).astype(np.float32),
        unadapted_prediction=rng.integers(0, 10, 8),
        step_predictions=rng.integers(0, 10, (8, 3)),
        logits=logits,
        seconds=1.25,
    )
    folder = RunFolder(tmp_path_factory.mktemp("whole"))
    folder.begin(CARD, {})
    folder.write_chunk(0, saved, CARD.key)
    return folder.path, folder.chunk_path(0).read_bytes(), saved


def refused_or_equal(path: Path, content: bytes, saved: Records) -> bool:
    """Whether a damaged chunk is refused; where it is not, it must say what it said."""
    folder = RunFolder(path)
    folder.chunk_path(0).write_bytes(content)
    read = outcome(lambda: folder.read_chunk(0, CARD.key))
    if isinstance(read, UserError):
        assert "\n" not in str(read)
        return True
    assert equal(read, saved)
    return False


@settings(max_examples=400)
@given(st.data())
def test_any_byte_changed(whole, data: st.DataObject):
    path, content, saved = whole
    damaged = bytearray(content)
    # Most of a small file is its footer; pages and their headers come first.
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 600))
        damaged[place] ^= data.draw(st.integers(1, 255))
    refused_or_equal(path, bytes(damaged), saved)


@given(st.data())
def test_truncated_lengthened_or_cut_out(whole, data: st.DataObject):
    path, content, saved = whole
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    more = data.draw(st.binary(max_size=20))
    for damaged in (content[:start], content[:start] + more + content[end:], more + content):
        refused_or_equal(path, damaged, saved)


@given(st.binary(max_size=300))
@example(b"")
@example(b"PAR1")
@example(b"PAR1" + bytes(4) + b"PAR1")
@example(b"PAR1" + b"\xff" * 4 + b"PAR1")
def test_anything_else_is_refused(whole, content: bytes):
    path, _, saved = whole
    assert refused_or_equal(path, content, saved)


# By name, since failing examples are printed.
LARGE = {
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a": ' * 100_000,
    "a long number": b"9" * 5000,
}


@given(st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()))
@example("nested lists")
@example("nested objects")
@example("a long number")
@example(b'"\xff"')
@example(b"NaN")
def test_any_bytes_as_json_files(tmp_path: Path, content: bytes | str):
    """A manifest, the costs, a summary."""
    folder = RunFolder(tmp_path)
    for name in ("manifest.json", "cost.json"):
        (tmp_path / name).write_bytes(LARGE[content] if isinstance(content, str) else content)
        assert isinstance(outcome(lambda: folder.read_json(name, CARD.key)), UserError | dict)  # noqa: B023
    with pytest.raises(UserError, match=r"manifest\.json"):
        folder.card()


@given(strange_values)
@example(0)
@example(-1)
@example(True)
@example(10**30)
def test_any_number_of_chunks(tmp_path: Path, count: object):
    """Fewer than there are, or no number at all."""
    folder = RunFolder(tmp_path)
    (tmp_path / "manifest.json").unlink(missing_ok=True)
    folder.begin(Card(CARD.protocol, {"method": "any", "chunks": count}), {})
    with pytest.raises(UserError):
        folder.read_records()
