"""A snapshot shows whatever a method keeps, and a difference names its path."""

import functools
import itertools
import random
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ttt_bench.testing.snapshot.tree import diff, take_snapshot


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = [1]


@dataclass
class Ring:
    other: "Ring | None" = None
    count: int = 0


def ring() -> Ring:
    one = Ring()
    one.other = Ring(one)
    return one


def closure():
    seen = []
    return lambda item: seen.append(item)


@pytest.mark.parametrize(
    ("make", "change", "path"),
    [
        (dict, lambda o: o.update(a=1), "x is new (dict)"),
        (lambda: {"a": 1}, lambda o: o.update(a=2), "x['a'] was 1 and is 2"),
        (lambda: {"a": 1, "b": 2}, lambda o: o.pop("a"), "x['a'] is gone"),
        (lambda: deque([1]), lambda o: o.append(2), "x[1] is new (2)"),
        (lambda: {1}, lambda o: o.add(2), "x{2} is new (2)"),
        (Slotted, lambda o: o.value.append(2), "x.value[1] is new (2)"),
        (ring, lambda o: setattr(o.other, "count", 3), "x.other.count was 0 and is 3"),
        (closure, lambda o: o(1), "x.seen is new (list)"),
        (lambda: functools.partial(print, []), lambda o: o.args[0].append(1), "x.args[0] is new"),
        (itertools.count, next, "x has changed"),
        (lambda: np.zeros(2), lambda o: o.put(0, 1), "x has changed"),
        (lambda: np.array([[], 1], dtype=object), lambda o: o[0].append(2), "x[0] is new (list)"),
        (lambda: np.random.default_rng(0), lambda o: o.random(), "x.bit_generator.state['state']"),
        (lambda: random.Random(0), lambda o: o.random(), "x.getstate()[1]"),
        (torch.Generator, lambda o: torch.rand(1, generator=o), "x has changed"),
        (lambda: torch.zeros(2), lambda o: o.data.add_(1), "x has changed (norm 0, now 1.414"),
        (lambda: torch.zeros(2), lambda o: o.requires_grad_(), "x.requires_grad was False"),
        (lambda: torch.nn.Dropout(), lambda o: o.eval(), "x.training was True and is False"),
        (lambda: torch.zeros(2, dtype=torch.bfloat16), lambda o: o.add_(1), "x has changed"),
        (lambda: SimpleNamespace(a=None), lambda o: setattr(o, "a", [1]), "x.a is new (list)"),
    ],
)
def test_a_change_is_seen_where_it_is(make, change, path: str):
    thing = make()
    before = take_snapshot({"x": (thing, "attribute")})
    assert not diff(before, take_snapshot({"x": (thing, "attribute")}))
    change(thing)
    changes = diff(before, take_snapshot({"x": (thing, "attribute")}))
    assert changes
    assert changes[0].text.startswith(path)


def test_a_copy_of_shared_objects_equals_them():
    shared = [1, 2]
    before = take_snapshot({"x": ({"a": shared, "b": shared}, "attribute")})
    assert not diff(before, take_snapshot({"x": ({"a": [1, 2], "b": [1, 2]}, "attribute")}))
