"""What a run would take: its chunks, and time and cost from a few samples of it."""

import math
from typing import Any

from ttt_bench.engine.plan import Chunk
from ttt_bench.engine.run import Prepared

# Enough to warm up and to time; a dry run of a slow method should not be a run.
WARMING = 2
TIMED = 6


def estimate(prepared: Prepared, workers: int) -> dict[str, Any]:
    """Probe and time a few samples of a run, without writing anything.

    Args:
        workers: how many there would be, each as fast as this machine's device.

    Returns:
        `method`, `dataset`, `backbone`; `samples`, `chunks` and how many of each are `missing`;
        `seconds_per_sample` and `device` they were measured on; `gflops_per_sample` and
        `peak_memory_mb` of a worker; `workers`, the `hours` they would take together with
        `worker_hours`, and the `petaflops` of all that is missing (10^15 operations, no rate).
    """
    run, worker = prepared.run, prepared.worker
    missing = sum(len(chunk.indices) for chunk in prepared.missing)
    about = {
        "method": run.method,
        "dataset": run.dataset,
        "backbone": run.backbone,
        "samples": len(run.plan.indices),
        "missing_samples": missing,
        "chunks": len(run.plan.chunks),
        "missing_chunks": len(prepared.missing),
        "device": prepared.job.device,
        "workers": workers,
    }
    if worker is None or not prepared.missing:
        nothing = dict.fromkeys(
            ("seconds_per_sample", "gflops_per_sample", "peak_memory_mb", "hours", "worker_hours",
             "petaflops")
        )  # fmt: skip
        return {**about, **nothing}
    few = run.plan.indices[: WARMING + TIMED]
    counted = worker.probe(few)
    worker.run(Chunk(-1, tuple(few[:WARMING])))
    timed = tuple(few[WARMING:]) or tuple(few)
    seconds = worker.run(Chunk(-1, timed)).seconds / len(timed)
    flops = sum(sum(phase.values()) for phase in counted["flops_per_sample"].values())
    # Workers take whole chunks: the last round may leave some of them idle.
    largest = max(len(chunk.indices) for chunk in prepared.missing)
    rounds = math.ceil(len(prepared.missing) / workers)
    hours = seconds * max(missing / workers, min(rounds * largest, missing)) / 3600
    return {
        **about,
        "seconds_per_sample": seconds,
        "gflops_per_sample": flops / 1e9,
        "peak_memory_mb": counted["peak_memory_bytes"] / 1e6,
        "hours": hours,
        "worker_hours": seconds * missing / 3600,
        "petaflops": flops * missing / 1e15,
    }
