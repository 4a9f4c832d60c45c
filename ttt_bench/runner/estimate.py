"""The time and cost of a run, estimated from a few of its samples."""

import math
from typing import Any

from ttt_bench.api.errors import UserError
from ttt_bench.api.executor import Chunk, UnreadableImages
from ttt_bench.runner.opening import OpenRun

# Enough to warm up and to time; a dry run of a slow method should not be a run.
WARMING = 2
TIMED = 6


def estimate(opened: OpenRun, workers: int) -> dict[str, Any]:
    """Probe and time a few samples of a run, without writing anything.

    Args:
        workers: how many there would be, each as fast as this machine's device.

    Returns:
        `method`, `dataset`, `backbone`; `samples`, `chunks` and how many of each are `missing`;
        `seconds_per_sample` and `device` they were measured on; `gflops_per_sample` and
        `peak_memory_mb` of a worker; `workers`, the `hours` they would take together with
        `worker_hours`, and the `petaflops` of all that is missing (10^15 operations, no rate);
        `cache_mb`, the size that its features take in the feature cache.
    """
    run, worker = opened.run, opened.worker
    missing = sum(len(chunk.indices) for chunk in opened.missing)
    facts = {
        "method": run.method,
        "dataset": run.dataset,
        "backbone": run.backbone,
        "samples": run.n,
        "missing_samples": missing,
        "chunks": run.chunks,
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
    few = opened.plan.indices[: WARMING + TIMED]
    counted = worker.count_costs(few)
    worker.run(Chunk(-1, tuple(few[:WARMING])))
    timed = tuple(few[WARMING:]) or tuple(few)
    result = worker.run(Chunk(-1, timed))
    if isinstance(result, UnreadableImages):
        raise UserError(f"{result.problems[0][1]} (--dry-run)")
    seconds = result.seconds / len(timed)
    flops = sum(sum(phase.values()) for phase in counted["flops_per_sample"].values())
    # Workers take whole chunks: the last round may leave some of them idle.
    largest = max(len(chunk.indices) for chunk in opened.missing)
    rounds = math.ceil(len(opened.missing) / workers)
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
