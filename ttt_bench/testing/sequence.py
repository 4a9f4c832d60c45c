"""Samples one after another through one adapter, with a picture of its state around each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ttt_bench.testing.attempt import Outcome, Trial
from ttt_bench.testing.snapshot import global_state
from ttt_bench.testing.snapshot.children import Kind, class_state
from ttt_bench.testing.snapshot.tree import Change, Node, changes, picture

if TYPE_CHECKING:
    from ttt_bench.testing.method import Subject

# Any number; a method that seeds a global generator is unlikely to choose it.
GLOBAL_SEED = 902174


@dataclass(frozen=True)
class Tour:
    """What was seen.

    Attributes:
        order: which sample came when.
        outcomes: what was said of each, in that order.
        kept: the same looked at again at the end, in the objects that the method returned.
        states: of adapter and backbone, before the first sample and after each.
        setup: of the backbone before the method's setup.
        around: the global state before and after each sample; the first pair is around setup and
            leaves the generators out.
        asked: the purposes for which the method drew.
    """

    order: tuple[int, ...]
    outcomes: list[Outcome]
    kept: list[Outcome]
    states: list[Node]
    setup: Node
    around: list[tuple[dict[str, Any], dict[str, Any]]]
    asked: set[str]

    @classmethod
    def make(cls, subject: "Subject", order: Sequence[int]) -> "Tour":
        """Take a fresh adapter through samples in an order."""
        task = subject.task()
        global_state.reseed(GLOBAL_SEED)
        setup = picture({"backbone": (task.backbone, "backbone")})
        before = _switches()
        trial = subject.trial(task)
        around = [(before, _switches())]
        states, outcomes, returned = [state_of(trial)], [], []
        for place in order:
            before = global_state.look()
            predictions = trial.adapt([subject.samples[place]])
            around.append((before, global_state.look()))
            outcomes.append(Outcome.of(predictions[0]))
            returned += predictions
            states.append(state_of(trial))
        kept = [Outcome.of(prediction) for prediction in returned]
        return cls(tuple(order), outcomes, kept, states, setup, around, trial.asked)

    def of(self, place: int) -> Outcome:
        """What was said of a sample when it first came."""
        return self.outcomes[self.order.index(place)]

    def found(self, kind: Kind) -> Iterator[Change]:
        """What was not put back after a sample, or not left alone in the setup.

        What the first sample added is a cache, and none of these; the next samples must leave it.
        Nothing may be added to the backbone, which other methods share.
        """
        steps: list[tuple[str, Node, Node]] = [("setup", self.setup, self._backbone(0))]
        steps += [
            (f"sample {place + 1}", before, after)
            for place, (before, after) in zip(self.order, pairwise(self.states), strict=True)
        ]
        for number, (name, before, after) in enumerate(steps):
            for change in changes(before, after):
                cache = number == 1 and change.added and kind != "backbone"
                if change.kind == kind and not cache:
                    yield replace(change, text=f"after {name}, {change.text}")

    def _backbone(self, number: int) -> Node:
        whole = self.states[number]
        part = whole.parts["backbone"]
        return Node("backbone", "roots", part.digest, parts={"backbone": part})


def _switches() -> dict[str, Any]:
    return {name: get() for name, (get, _) in global_state.SWITCHES.items()}


def state_of(trial: Trial) -> Node:
    """Everything an adapter holds, its task and backbone, and what its classes and modules hold."""
    roots: dict[str, tuple[Any, Kind]] = {
        "backbone": (trial.task.backbone, "backbone"),
        "task": (trial.task, "attribute"),
        "adapter": (trial.adapter, "attribute"),
    }
    for name, value in class_state(trial.adapter).items():
        roots[name] = value, "attribute"
    return picture(roots)


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Which parts of the global state differ."""
    found = changes(_global(before), _global(after))
    return list(dict.fromkeys(change.path.partition("[")[0] for change in found))


def _global(state: dict[str, Any]) -> Node:
    return picture({name: (value, "attribute") for name, value in state.items()})
