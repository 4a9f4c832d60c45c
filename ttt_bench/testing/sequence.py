"""SequenceRun: batches one after another through one adapter, with a snapshot around each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.sample import Prediction
from ttt_bench.testing.attempt import FreshAdapter, PredictionCopy
from ttt_bench.testing.snapshot.children import Kind, class_state
from ttt_bench.testing.snapshot.tree import Change, Node, diff, roots_of, take_snapshot

Batch = tuple[int, ...]
GlobalState = dict[str, Any]


@dataclass(frozen=True)
class SequenceRun:
    """The record of one adapter on a sequence of batches.

    Attributes:
        batches: the positions of each batch's samples.
        predictions: copies of each batch's predictions.
        returned: the same predictions, as the method's own objects.
        states: of adapter, task and backbone, before the first batch and after each.
        before_setup: the backbone before the method's setup.
        global_states: the global state before and after each batch; the first pair is around the
            setup and leaves the random generators out.
        purposes: the purposes for which the method asked its rngs.
    """

    batches: tuple[Batch, ...]
    predictions: list[list[PredictionCopy]]
    returned: list[list[Prediction]]
    states: list[Node]
    before_setup: Node
    global_states: list[tuple[GlobalState, GlobalState]]
    purposes: set[str]

    def of(self, batch: Batch) -> list[PredictionCopy]:
        """Return the predictions of a batch at its first time."""
        return self.predictions[self.batches.index(batch)]

    def named_predictions(self) -> Iterator[tuple[str, PredictionCopy]]:
        """Yield every prediction with the name of its sample, in order."""
        for batch, predictions in zip(self.batches, self.predictions, strict=True):
            for position, prediction in zip(batch, predictions, strict=True):
                yield f"sample {position + 1}", prediction

    def leaks(self, kind: Kind) -> Iterator[Change]:
        """Yield every change of a kind that was not undone.

        An addition by the first batch is a cache and no leak; the later ones must leave it alone.
        The backbone, which other methods share, may not even have an addition.
        """
        steps: list[tuple[str, Node, Node]] = [
            ("setup", self.before_setup, roots_of(self.states[0], ["backbone"]))
        ]
        steps += [
            (batch_name(batch), before, after)
            for batch, (before, after) in zip(self.batches, pairwise(self.states), strict=True)
        ]
        for number, (name, before, after) in enumerate(steps):
            for change in diff(before, after):
                cache = number == 1 and change.added and kind != "backbone"
                if change.kind == kind and not cache:
                    yield replace(change, text=f"after {name}, {change.text}")


def batch_name(batch: Sequence[int]) -> str:
    """Name a batch in a message: "sample 1", "samples 3 and 4"."""
    numbers = [str(position + 1) for position in batch]
    return f"sample {numbers[0]}" if len(batch) == 1 else f"samples {' and '.join(numbers)}"


def state_of(fresh: FreshAdapter) -> Node:
    """Take a snapshot of an adapter, its task, its backbone, its classes and its modules."""
    roots: dict[str, tuple[Any, Kind]] = {
        "backbone": (fresh.task.backbone, "backbone"),
        "task": (fresh.task, "attribute"),
        "adapter": (fresh.adapter, "attribute"),
    }
    for name, value in class_state(type(fresh.adapter)).items():
        roots[name] = value, "attribute"
    return take_snapshot(roots)


def snapshot_classes(adapter_type: type[Adapter[Any]]) -> Node:
    """Take a snapshot of the data of a method's classes and modules alone."""
    state = class_state(adapter_type)
    return take_snapshot({name: (value, "attribute") for name, value in state.items()})
