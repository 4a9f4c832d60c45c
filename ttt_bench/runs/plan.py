"""Plan: which samples form which chunk, and for some methods which form a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ttt_bench.api.dataset import Dataset, spread_sample
from ttt_bench.api.executor import Chunk
from ttt_bench.api.sample import SampleRNG
from ttt_bench.api.specs import Kind

CHUNK_SIZE = 32
# Each file takes a millisecond to read: a run of more chunks than this has chunks of up to 128.
MANY_CHUNKS = 512
LARGER_CHUNK = 128
# A folder of more files than this is slow to list on the file systems of clusters.
MOST_CHUNKS = 2048


@dataclass(frozen=True)
class Plan:
    """All chunks of a run."""

    chunks: tuple[Chunk, ...]

    @property
    def indices(self) -> list[int]:
        """Every entry, in the dataset's order."""
        return sorted(index for chunk in self.chunks for index in chunk.indices)


def chunk_size(samples: int) -> int:
    """Return the number of samples in a chunk of a run of so many."""

    def for_at_most(chunks: int) -> int:
        return CHUNK_SIZE * math.ceil(samples / (CHUNK_SIZE * chunks))

    return max(min(for_at_most(MANY_CHUNKS), LARGER_CHUNK), for_at_most(MOST_CHUNKS))


def make_plan(
    dataset: Dataset,
    limit: int | None,
    kind: Kind = "sample",
    seed: int = 0,
    batch_size: int | None = None,
    skip: frozenset[int] = frozenset(),
) -> Plan:
    """Make the plan for `limit` samples of a dataset, or for all of them.

    For the kind `sample` chunks are cut from the dataset's order. For the others each group (a
    corruption, a domain) is put into an order drawn from the seed and cut into batches. Chunks of
    the kind `batch` are whole batches; a chunk of the kind `stream` is a whole group, so that a
    stream is never split over workers and an interrupted one begins again.

    Args:
        dataset: the dataset.
        limit: number of samples, None for all.
        kind: what a prediction may depend on, see `AdapterSpec`.
        seed: the run's seed.
        batch_size: samples in a batch, for the kinds `batch` and `stream`.
        skip: entries to leave out; the other chunks of kind `sample` stay as they are.
    """
    indices = spread_sample(dataset.entries, limit)
    size = chunk_size(len(indices))
    if kind == "sample":
        cut = [indices[at : at + size] for at in range(0, len(indices), size)]
        parts = [tuple(index for index in part if index not in skip) for part in cut]
        return Plan(tuple(Chunk(i, part) for i, part in enumerate(filter(None, parts))))
    assert batch_size is not None
    groups: dict[str | None, list[int]] = {}
    for index in (index for index in indices if index not in skip):
        groups.setdefault(dataset.entries[index].group, []).append(index)
    chunks: list[Chunk] = []
    for members in groups.values():
        order = _drawn_order(dataset, members, seed)
        batches = [tuple(order[at : at + batch_size]) for at in range(0, len(order), batch_size)]
        whole = len(batches) if kind == "stream" else max(1, size // batch_size)
        for at in range(0, len(batches), whole):
            part = tuple(batches[at : at + whole])
            # Records stand in the dataset's order, so that methods of any kind pair by position.
            inside = sorted(index for batch in part for index in batch)
            chunks.append(Chunk(len(chunks), tuple(inside), part))
    return Plan(tuple(chunks))


def _drawn_order(dataset: Dataset, indices: Sequence[int], seed: int) -> list[int]:
    """Shuffle entries by draws of their own, so that the order of the others plays no part."""
    draws = {
        index: SampleRNG(seed, dataset.sample_id(index)).numpy("place in its stream").random()
        for index in indices
    }
    return sorted(indices, key=draws.__getitem__)
