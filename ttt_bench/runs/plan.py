"""Plan: which samples form which chunk, and for some methods which form a batch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from ttt_bench.api.dataset import Dataset, spread_sample
from ttt_bench.api.executor import Chunk
from ttt_bench.api.specs import Kind
from ttt_bench.runs.streams import Stream, StreamSetting, make_streams, order_digest

CHUNK_SIZE = 32
# Each file takes a millisecond to read: a run of more chunks than this has chunks of up to 128.
MANY_CHUNKS = 512
LARGER_CHUNK = 128
# A folder of more files than this is slow to list on the file systems of clusters.
MOST_CHUNKS = 2048
GROUPED = StreamSetting()

Batches = list[tuple[int, ...]]


@dataclass(frozen=True)
class Plan:
    """All chunks of a run.

    Attributes:
        chunks: the chunks whose records are scored.
        revisited: the chunks of samples that come again at the end of a stream.
        order: a digest of the order of all batches, "" where the plan fixes none.
    """

    chunks: tuple[Chunk, ...]
    revisited: tuple[Chunk, ...] = ()
    order: str = ""

    @property
    def indices(self) -> list[int]:
        """Every entry, in the dataset's order."""
        return sorted(index for chunk in self.chunks for index in chunk.indices)

    @property
    def all_chunks(self) -> tuple[Chunk, ...]:
        """Every chunk; the number of each is its place here."""
        return self.chunks + self.revisited

    def full_batches(self, number: int) -> list[tuple[int, ...]]:
        """Return the first few of the largest batches, or single samples where none are fixed."""
        batches = [batch for chunk in self.chunks for batch in chunk.batches]
        batches = batches or [(index,) for index in self.indices[:number]]
        largest = max(map(len, batches))
        return [batch for batch in batches if len(batch) == largest][:number]

    @cached_property
    def chain_starts(self) -> list[int]:
        """For every chunk the number of the one that its chain begins with."""
        starts: list[int] = []
        for chunk in self.all_chunks:
            starts.append(chunk.number if chunk.follows is None else starts[chunk.follows])
        return starts


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
    setting: StreamSetting = GROUPED,
) -> Plan:
    """Make the plan for `limit` samples of a dataset, or for all of them.

    For the kind `sample` chunks are cut from the dataset's order. For the others the samples are
    put in streams and cut into batches, and a chunk is a few whole batches of one stream. For the
    kind `stream` each chunk follows the one before it in its stream.

    Args:
        dataset: the dataset.
        limit: number of samples, None for all.
        kind: what a prediction may depend on, see `AdapterSpec`.
        seed: the run's seed.
        batch_size: samples in a batch, for the kinds `batch` and `stream`.
        skip: entries to leave out; the other chunks of kind `sample` stay as they are.
        setting: the streams, for the kinds `batch` and `stream`.

    Raises:
        UserError: the dataset lacks what the streams need.
    """
    indices = spread_sample(dataset.entries, limit)
    size = chunk_size(len(indices))
    if kind == "sample":
        cut = [indices[at : at + size] for at in range(0, len(indices), size)]
        parts = [tuple(index for index in part if index not in skip) for part in cut]
        return Plan(tuple(Chunk(i, part) for i, part in enumerate(filter(None, parts))))
    assert batch_size is not None
    if kind == "batch":
        # Batches that are forgotten are predicted alike when they come again.
        setting = replace(setting, revisit=False)
    streams = make_streams(dataset, [i for i in indices if i not in skip], setting, seed)
    first = {stream.name: _batches(stream, batch_size) for stream in streams}
    again = {
        stream.name: [] if stream.revisited is None else stream.revisited.batches(batch_size)
        for stream in streams
    }
    chunks = [chunk for name, batches in first.items() for chunk in _cut(name, batches, size)]
    revisited = [
        replace(chunk, position=chunk.position + sum(map(len, first[name])))
        for name, batches in again.items()
        for chunk in _cut(name, batches, size)
    ]
    numbered = [replace(chunk, number=number) for number, chunk in enumerate(chunks + revisited)]
    if kind == "stream":
        numbered = _chained(numbered)
    order = order_digest(dataset, [first[name] + again[name] for name in first])
    return Plan(tuple(numbered[: len(chunks)]), tuple(numbered[len(chunks) :]), order)


def _batches(stream: Stream, size: int) -> Batches:
    return [batch for segment in stream.segments for batch in segment.batches(size)]


def _cut(stream: str, batches: Batches, size: int) -> Iterator[Chunk]:
    """Yield chunks of whole batches, each of at most `size` samples or of one batch."""
    position, part = 0, list[tuple[int, ...]]()
    for batch, following in pairwise([*batches, None]):
        assert batch is not None
        part.append(batch)
        samples = sum(map(len, part))
        if following is None or samples + len(following) > size:
            # Records stand in the dataset's order, so that methods of any kind pair by position.
            inside = tuple(sorted(index for one in part for index in one))
            yield Chunk(0, inside, tuple(part), stream, position)
            position, part = position + samples, []


def _chained(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Let each chunk follow the one before it in its stream."""
    last: dict[str | None, int] = {}
    chained: list[Chunk] = []
    for chunk in chunks:
        before = last.get(chunk.stream)
        if before is not None:
            chained[before] = replace(chained[before], followed=True)
        chained.append(replace(chunk, follows=before))
        last[chunk.stream] = chunk.number
    return chained
