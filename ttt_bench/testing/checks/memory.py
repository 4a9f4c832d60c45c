"""What a method holds does not grow with the samples it has seen."""

import gc
from itertools import pairwise

from ttt_bench.api.cost import LiveTensors
from ttt_bench.testing.method import Subject
from ttt_bench.testing.snapshot.tree import changes, size
from ttt_bench.testing.suite import CheckFailed, Finding


def memory_bounded(subject: Subject) -> Finding:
    """Neither live tensors nor the objects that can be reached from the adapter grow steadily."""
    states = subject.tour.states
    held = [size(state, without="backbone") for state in states]
    if _grows(held[1:]):
        grown = [c.path for c in changes(states[-2], states[-1]) if c.added]
        raise CheckFailed(
            f"the adapter holds more objects after every sample ({_listed(held)}): "
            f"{', '.join(grown[:2])}"
        )
    trial, live = subject.trial(), []
    # What is there already need not be searched for garbage after every sample.
    gc.freeze()
    try:
        with LiveTensors() as made:
            for sample in subject.samples:
                trial.predict([sample])
                gc.collect()
                live.append(made.bytes)
    finally:
        gc.unfreeze()
    if _grows(live):
        raise CheckFailed(f"more bytes of tensors stay alive after every sample ({_listed(live)})")
    return Finding(f"{held[-1]:,} objects, {live[-1]:,} bytes of tensors made and kept")


def _grows(sizes: list[int]) -> bool:
    return all(later > earlier for earlier, later in pairwise(sizes))


def _listed(sizes: list[int]) -> str:
    return ", ".join(f"{number:,}" for number in sizes)
