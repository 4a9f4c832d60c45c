"""Which samples form which chunk: fixed by the dataset and the limit alone."""

from dataclasses import dataclass

from ttt_bench.datasets.base import Dataset, choose

CHUNK_SIZE = 32


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
        """Every entry, in order."""
        return [index for chunk in self.chunks for index in chunk.indices]


def make_plan(dataset: Dataset, limit: int | None) -> Plan:
    """The plan for `limit` samples of a dataset, or for all of them."""
    indices = choose(dataset.entries, limit)
    parts = [indices[at : at + CHUNK_SIZE] for at in range(0, len(indices), CHUNK_SIZE)]
    return Plan(tuple(Chunk(number, tuple(part)) for number, part in enumerate(parts)))
