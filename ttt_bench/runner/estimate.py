"""The time and cost of a run, estimated from a few of its samples."""

import math
from typing import Any

from ttt_bench.api.errors import UserError
from ttt_bench.api.executor import Chunk, UnreadableImages, chains, without_state
from ttt_bench.engine.probe import PROBED_BATCHES
from ttt_bench.engine.worker import MethodWorker
from ttt_bench.runner.opening import OpenRun

# Enough to warm up and to time; a dry run of a slow method should not be a run.
WARMING = 2
TIMED = 6


def estimate(opened: OpenRun, workers: int) -> dict[str, Any]:
    """Probe and time a few samples of a run, without writing anything.

    Args:
        workers: how many there would be, each as fast as this machine's device.

    Returns:
        `title`, what the command calls the run; `method`, `dataset`, `backbone`, `seed`; `path`,
        its folder; `samples`, `chunks` and how many of each are `missing`;
        `streams`, None for a method without;
        `seconds_per_sample` and `device` they were measured on; `gflops_per_sample` and
        `peak_memory_mb` of a worker; `workers`, the `hours` they would take together with
        `worker_hours`, and the `petaflops` of all that is missing (10^15 operations, no rate);
        `cache_mb`, the size that its features take in the feature cache.
    """
    run, worker, plan = opened.run, opened.worker, opened.plan
    missing = sum(len(chunk.indices) for chunk in opened.missing)
    streams = {chunk.stream for chunk in plan.all_chunks} - {None}
    facts = {
        "title": run.title,
        "method": run.method,
        "dataset": run.dataset,
        "backbone": run.backbone,
        "seed": opened.config.seed,
        "path": run.path,
        "samples": sum(len(chunk.indices) for chunk in plan.all_chunks),
        "missing_samples": missing,
        "streams": len(streams) or None,
        "chunks": len(plan.all_chunks),
        "missing_chunks": len(opened.missing),
        "device": opened.worker_spec.device,
        "workers": workers,
    }
    if worker is None or not opened.missing:
        nothing = dict.fromkeys(
            ("seconds_per_sample", "gflops_per_sample", "peak_memory_mb", "hours", "worker_hours",
             "petaflops", "cache_mb")
        )  # fmt: skip
        return {**facts, **nothing}
    counted = worker.count_costs(plan.full_batches(PROBED_BATCHES))
    seconds = _seconds_per_sample(opened, worker)
    flops = sum(sum(phase.values()) for phase in counted["flops_per_sample"].values())
    # Workers take whole chains: the last round may leave some of them idle.
    parts = [sum(len(one.indices) for one in chain.chunks) for chain in chains(opened.missing)]
    largest, rounds = max(parts), math.ceil(len(parts) / workers)
    hours = seconds * max(missing / workers, min(rounds * largest, missing)) / 3600
    return {
        **facts,
        "seconds_per_sample": seconds,
        "gflops_per_sample": flops / 1e9,
        "peak_memory_mb": counted["peak_memory_bytes"] / 1e6,
        "hours": hours,
        "worker_hours": seconds * missing / 3600,
        "petaflops": flops * missing / 1e15,
        "cache_mb": worker.cached_bytes_per_sample() * missing / 1e6,
    }


def _seconds_per_sample(opened: OpenRun, worker: MethodWorker) -> float:
    """Run a few samples to warm up, and a few more against the clock.

    Raises:
        UserError: an image of them cannot be read, or the method fails.
    """
    batches = [batch for chunk in opened.plan.chunks for batch in chunk.batches]
    if batches:
        warm, timed = (Chunk(-1, tuple(sorted(one)), (one,)) for one in (batches * 2)[:2])
    else:
        few = opened.plan.indices[: WARMING + TIMED]
        warm = Chunk(-1, tuple(few[:WARMING]))
        timed = Chunk(-1, tuple(few[WARMING:]) or tuple(few))
    worker.run(warm)
    result = worker.run(timed)
    if isinstance(result, UnreadableImages):
        raise UserError(f"{result.problems[0][1]} (--dry-run)")
    records = without_state(result)
    return records.seconds / len(records)
