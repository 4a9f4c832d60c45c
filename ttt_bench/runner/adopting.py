"""Using the finished samples of a first attempt again, after unreadable images were dealt with."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError
from ttt_bench.api.executor import Chunk
from ttt_bench.api.records import Records
from ttt_bench.cache.features import image_name
from ttt_bench.preparation.parts import open_entry
from ttt_bench.runs.arrow import joined
from ttt_bench.runs.card import Card
from ttt_bench.runs.folder import RunFolder


def adopted_chunks(
    source: RunFolder, before: Card, now: Card, missing: Sequence[Chunk], dataset: Dataset
) -> Iterator[tuple[Chunk, Records]]:
    """Yield the chunks whose samples a first attempt has finished, with their records.

    Only a method of kind `sample` can use records again, since others depend on their neighbours.
    Where the dataset's revision differs, every image is decoded again and has to be the same.

    Args:
        source: the folder of the first attempt.
        before: its card.
        now: the card of the run that uses its records.
        missing: the chunks to look for.
        dataset: the dataset.
    """
    if now.method["kind"] != "sample":
        return
    records: dict[str, tuple[Records, int]] = {}
    for path in sorted((source.path / "chunks").glob("*.parquet")):
        with suppress(UserError, ValueError):
            part = source.read_chunk(int(path.stem), before.key)
            records |= {name: (part, row) for row, name in enumerate(part.sample_id)}
    same_revision = before.protocol["revision"] == now.protocol["revision"]
    for chunk in missing:
        names = [dataset.sample_id(index) for index in chunk.indices]
        if not all(name in records for name in names):
            continue
        if same_revision or all(
            records[name][0].image_digest[records[name][1]] == _digest(dataset, index)
            for name, index in zip(names, chunk.indices, strict=True)
        ):
            yield chunk, joined([_row(*records[name]) for name in names])


def _row(part: Records, row: int) -> Records:
    # The time of a chunk is shared out evenly among its samples.
    return replace(part.in_order_of([part.sample_id[row]]), seconds=part.seconds / len(part))


def _digest(dataset: Dataset, index: int) -> str:
    try:
        return image_name(open_entry(dataset, index))
    except UserError:
        return "unreadable"
