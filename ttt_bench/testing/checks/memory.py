"""The memory of a method does not grow with the number of samples."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from ttt_bench.testing.declaration import FORGETTING, check
from ttt_bench.testing.outcome import CheckFailed, Finding

if TYPE_CHECKING:
    from ttt_bench.api.sample import Sample
    from ttt_bench.testing.method import MethodUnderTest

# A stream of more samples takes too long.
MOST_SAMPLES = 512
# Batches after which memory is measured once it may not grow any more.
MEASURED = 4


@check(order=26, kinds=FORGETTING)
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


@check(order=27, kinds={"stream"})
def check_samples_kept(method: "MethodUnderTest") -> Finding:
    """Check that memory stops growing at the number of samples that the method declares."""
    from ttt_bench.testing.attempt import failing
    from ttt_bench.testing.sequence import state_of
    from ttt_bench.testing.snapshot.tree import count_objects

    fresh, size = method.fresh_adapter(), len(method.batches[0])
    with failing("samples_kept raises"):
        declared = fresh.adapter.samples_kept()
    if declared > MOST_SAMPLES:
        return Finding(
            f"keeps up to {declared:,} samples, more than the {MOST_SAMPLES:,} that are given "
            "here; choose a smaller memory with --set",
            "skipped",
        )
    # The first batch may fill caches that are no memory of samples.
    filling = 1 + math.ceil(declared / size)
    objects = []
    for number, samples in enumerate(batches_of_new_samples(method, filling + MEASURED)):
        fresh.predict(samples)
        if number >= filling:
            objects.append(count_objects(state_of(fresh), without="backbone"))
    live = live_bytes(method, filling + MEASURED)[filling:]
    for what, sizes in (("objects", objects), ("bytes of tensors", live)):
        if grows(sizes):
            raise CheckFailed(
                f"holds more {what} after every batch ({listed(sizes)}), though samples_kept "
                f"declares {declared} samples and {filling * size} came before"
            )
    return Finding(f"no growth after {filling * size} samples; samples_kept declares {declared}")


def batches_of_new_samples(method: "MethodUnderTest", count: int) -> "Iterator[list[Sample]]":
    """Yield batches; samples that come again have other ids, as in a stream of other samples."""
    from ttt_bench.api.sample import Sample

    for number in range(count):
        turn, index = divmod(number, len(method.batches))
        samples = method.batch(method.batches[index])
        yield [Sample(f"{s.id} {turn}", s.image) for s in samples] if turn else samples


def live_bytes(method: "MethodUnderTest", batches: int) -> list[int]:
    """Return the bytes of tensors that a fresh adapter has made and kept after each batch.

    Args:
        method: the method.
        batches: how many batches to give it.
    """
    import gc

    from ttt_bench.api.cost import LiveTensors

    fresh, live = method.fresh_adapter(), []
    # Older objects need not be searched for garbage after every batch.
    gc.freeze()
    try:
        with LiveTensors() as tensors:
            for samples in batches_of_new_samples(method, batches):
                fresh.predict(samples)
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
