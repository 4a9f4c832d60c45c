"""The card: its fingerprint stands for its values, and nothing that is not one passes for one."""

import copy
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.fuzz.values import json_objects, json_values, outcome, strange_values
from ttt_bench.api.errors import UserError
from ttt_bench.runs.card import Card, digest, read_card

cards = st.builds(Card, json_objects, json_objects)


def manifest_of(card: Card) -> dict[str, Any]:
    return {
        "card": card.as_json(),
        "digests": card.digests,
        "fingerprint": card.fingerprint,
        "key": card.key,
    }


def reordered(value: Any) -> Any:
    """The same JSON with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@given(cards)
def test_the_order_of_keys_changes_nothing(card: Card):
    other = Card(reordered(card.protocol), reordered(card.method))
    assert (other.fingerprint, other.key) == (card.fingerprint, card.key)
    assert card.first_difference(other) is None


@given(cards, cards)
def test_cards_are_equal_where_their_digests_are(one: Card, other: Card):
    same_protocol = canonical(one.protocol) == canonical(other.protocol)
    same = same_protocol and canonical(one.method) == canonical(other.method)
    assert (one.fingerprint == other.fingerprint) == same_protocol
    assert (one.key == other.key) == same
    assert (one.first_difference(other) is None) == same


@given(cards, st.data(), json_values)
def test_any_other_value_anywhere_is_seen(card: Card, data: st.DataObject, value: Any):
    other = Card(copy.deepcopy(card.protocol), card.method)
    place: Any = other.protocol
    assume(place)
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        inner = place[key]
        if not (isinstance(inner, dict | list) and inner and data.draw(st.booleans())):
            break
        place = inner
    assume(canonical(place[key]) != canonical(value))
    place[key] = value
    assert other.fingerprint != card.fingerprint
    assert other.key != card.key
    assert card.first_difference(other) is not None


@given(cards, cards)
def test_a_difference_is_one_from_both_sides(one: Card, other: Card):
    here, there = one.first_difference(other), other.first_difference(one)
    assert (here is None) == (there is None)


@given(cards)
def test_a_card_survives_a_file(card: Card):
    read = read_card(json.loads(json.dumps(manifest_of(card), indent=2)), "here")
    assert (read.fingerprint, read.key) == (card.fingerprint, card.key)
    assert read.first_difference(card) is None


@given(json_values)
def test_a_digest_is_of_the_canonical_form(value: Any):
    assert digest(value) == digest(json.loads(json.dumps(value)))
    assert len(digest(value)) == 64


@given(st.dictionaries(st.sampled_from(["card", "digests", "fingerprint", "key"]), strange_values))
def test_what_is_no_manifest_is_refused(value: dict[str, Any]):
    with pytest.raises(UserError, match="here: "):
        read_card(value, "here")


@pytest.mark.parametrize("strange", ["\ud800", {"\udfff": 1}, float("nan"), 10**400], ids=ascii)
@pytest.mark.parametrize("part", ["protocol", "method"])
def test_values_that_json_files_hold_and_cards_do_not(part: str, strange: object):
    """Python reads them from a file, and some cannot be written as UTF-8."""
    manifest = manifest_of(Card({"limit": 1}, {"method": "apm"}))
    manifest["card"][part] = {"limit": strange}
    with pytest.raises(UserError, match="here: "):
        read_card(manifest, "here")


@given(cards, st.data(), strange_values)
def test_a_manifest_with_anything_in_it(card: Card, data: st.DataObject, value: Any):
    """At any place of a sound manifest: it is the same card, or it is refused."""
    manifest = json.loads(json.dumps(manifest_of(card)))
    place: Any = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not (isinstance(place[key], dict) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    place[key] = value
    read = outcome(lambda: read_card(manifest, "here"))
    assert isinstance(read, UserError) or read.key == card.key
