"""Which samples form which chunk: fixed by the dataset, the limit and the kind of method alone."""

import math
from dataclasses import dataclass

from ttt_bench.datasets.base import Dataset, choose

CHUNK_SIZE = 32
# A folder of more files than this is slow to list on the file systems of clusters.
MOST_CHUNKS = 2048


@dataclass(frozen=True)
class Chunk:
    """Samples that are finished, saved and lost together.

    Attributes:
        number: its place in the plan; names its file.
        indices: the dataset's entries in it.
    """

    number: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """All chunks of a run."""

    chunks: tuple[Chunk, ...]

    @property
    def indices(self) -> list[int]:
        """Every entry, in the dataset's order."""
        return sorted(index for chunk in self.chunks for index in chunk.indices)


def make_plan(dataset: Dataset, limit: int | None, online: bool = False) -> Plan:
    """The plan for `limit` samples of a dataset, or for all of them.

    Args:
        online: whether the method carries state; then a chunk is a whole stream, that is a
            corruption or a domain, so that a stream is never split over workers and one that was
            interrupted begins again.
    """
    indices = choose(dataset.entries, limit)
    if online:
        streams: dict[str | None, list[int]] = {}
        for index in indices:
            streams.setdefault(dataset.entries[index].group, []).append(index)
        parts = list(streams.values())
    else:
        size = CHUNK_SIZE * math.ceil(len(indices) / (CHUNK_SIZE * MOST_CHUNKS))
        parts = [indices[at : at + size] for at in range(0, len(indices), size)]
    return Plan(tuple(Chunk(number, tuple(part)) for number, part in enumerate(parts)))
