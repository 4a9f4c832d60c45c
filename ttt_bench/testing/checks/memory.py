"""The memory of a method does not grow with the number of samples."""

from itertools import pairwise
from typing import TYPE_CHECKING

from ttt_bench.testing.declaration import FORGETTING, check
from ttt_bench.testing.outcome import CheckFailed, Finding

if TYPE_CHECKING:
    from ttt_bench.testing.method import MethodUnderTest


@check(order=25, kinds=FORGETTING)
def check_memory_bounded(method: "MethodUnderTest") -> Finding:
    """Check that neither live tensors nor the adapter's objects grow with every batch."""
    from ttt_bench.testing.snapshot.tree import count_objects, diff

    states = method.forward_pass.states
    objects = [count_objects(state, without="backbone") for state in states[1:]]
    if grows(objects):
        added = [change.path for change in diff(states[-2], states[-1]) if change.added]
        raise CheckFailed(
            f"the adapter holds more objects after every batch ({listed(objects)}): "
            f"{', '.join(added[:2])}"
        )
    live = live_bytes(method, len(method.batches) + 1)
    if grows(live):
        raise CheckFailed(f"more bytes of tensors stay alive after every batch ({listed(live)})")
    return Finding(f"{objects[-1]:,} objects, {live[-1]:,} bytes of tensors made and kept")


def live_bytes(method: "MethodUnderTest", batches: int) -> list[int]:
    """Return the bytes of tensors that a fresh adapter has made and kept after each batch.

    Args:
        method: the method.
        batches: how many batches; after the last one the first comes again.
    """
    import gc

    from ttt_bench.api.cost import LiveTensors

    fresh, live = method.fresh_adapter(), []
    # Older objects need not be searched for garbage after every batch.
    gc.freeze()
    try:
        with LiveTensors() as tensors:
            for number in range(batches):
                fresh.predict(method.batch(method.batches[number % len(method.batches)]))
                gc.collect()
                live.append(tensors.bytes)
    finally:
        gc.unfreeze()
    return live


def grows(sizes: list[int]) -> bool:
    """Say whether every size is larger than the one before."""
    return all(later > earlier for earlier, later in pairwise(sizes))


def listed(sizes: list[int]) -> str:
    """Return sizes as text."""
    return ", ".join(f"{number:,}" for number in sizes)
