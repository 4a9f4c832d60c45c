"""Resuming streams: from which state a chain of chunks goes on, and what becomes of the states."""

import sys
from collections.abc import Collection
from dataclasses import replace

from ttt_bench.api.errors import MethodError, UserError
from ttt_bench.api.executor import Chunk, RecordsWithState, chains
from ttt_bench.api.records import Records
from ttt_bench.runs.folder import RunFolder
from ttt_bench.runs.plan import Plan


def chunks_to_run(plan: Plan, missing: Collection[int], folder: RunFolder, key: str) -> list[Chunk]:
    """Return the missing chunks, and those that lead to them from the last state of their stream.

    Args:
        plan: the run's plan.
        missing: the numbers of the chunks without a sound file.
        folder: the run's folder.
        key: the run's key.
    """
    runs: list[Chunk] = []
    for chain in chains(plan.all_chunks):
        gaps = [chunk.number for chunk in chain.chunks if chunk.number in missing]
        if not gaps:
            continue
        # The numbers of a chain's chunks come one after another.
        first = chain.chunks[0].number
        begin, state = _last_state(folder, range(first, gaps[0]), key)
        part = chain.chunks[begin - first : gaps[-1] + 1 - first]
        runs += [replace(part[0], state=state), *part[1:]]
    return runs


def _last_state(folder: RunFolder, numbers: range, key: str) -> tuple[int, bytes | None]:
    """Return the number of the chunk to begin with, and the state before it, None for a new start.

    Args:
        folder: the run's folder.
        numbers: the chunks after which a state would help, from the first of the chain on.
        key: the run's key.
    """
    for number in reversed([one for one in folder.states.numbers() if one in numbers]):
        try:
            return number + 1, folder.states.read(number, key)
        except UserError as error:
            print(f"{error}; an earlier state is taken", file=sys.stderr)
    return numbers.start, None


def save_chunk(
    plan: Plan, chunk: Chunk, result: Records | RecordsWithState, folder: RunFolder, key: str
) -> Records | None:
    """Save what was computed of a chunk, and drop the states that no later chunk needs.

    The state after a chunk is saved before its records, and earlier ones are dropped after them: at
    every moment there is what the next missing chunk needs.

    Args:
        plan: the run's plan.
        chunk: the chunk.
        result: its records, and perhaps the state after it.
        folder: the run's folder.
        key: the run's key.

    Returns:
        The records, None where the chunk was there already and was run for the state after it.

    Raises:
        MethodError: the chunk was there already, with other records.
        UserError: the folder cannot be written to.
    """
    state = None
    if isinstance(result, RecordsWithState):
        result, state = result.records, result.state
        folder.states.write(chunk.number, state, key)
    before = _saved_records(folder, chunk, key)
    if before is None:
        folder.write_chunk(chunk.number, result, key)
    elif replace(before, seconds=0.0).digest() != replace(result, seconds=0.0).digest():
        raise MethodError(
            f"chunk {chunk.number} came out otherwise when it was computed again from the last "
            "saved state: the method is not deterministic on this machine, or its saved state is "
            "not all of its state; `ttt-bench check` says more"
        )
    if state is not None or (chunk.follows is not None and not chunk.followed):
        start = plan.chain_starts[chunk.number]
        folder.states.drop(one for one in folder.states.numbers() if start <= one < chunk.number)
    return result if before is None else None


def _saved_records(folder: RunFolder, chunk: Chunk, key: str) -> Records | None:
    """Return the records of a chunk of a stream that was saved before, None for none."""
    if chunk.stream is None or not folder.chunk_path(chunk.number).exists():
        return None
    try:
        return folder.read_chunk(chunk.number, key)
    # A damaged file is written anew.
    except UserError:
        return None
