"""What asking costs, beside what the teacher costs, as the number of patches grows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ttt_bench import Counter
from ttt_bench_apm.self_supervised.network import ask
from ttt_bench_apm.self_supervised.photograph import Subject
from ttt_bench_apm.self_supervised.teacher import Teacher

SIDES = (7, 14, 28, 56, 112, 224)


@dataclass(frozen=True)
class Cost:
    """One point of the sweep.

    Attributes:
        side: patches per side.
        gflops: forward, two for a multiply-add.
        seconds: wall time, the best of two; None where it was not run.
        megabytes: the peak of live tensors, weights included; None where it was not run.
    """

    side: int
    gflops: float
    seconds: float | None
    megabytes: float | None


def field_costs(subject: Subject, sides: Sequence[int], chunk: int) -> list[Cost]:
    """Of the trigger, once, and of features and colours at side x side locations."""
    network = subject.network

    def run(side: int) -> Callable[[], object]:
        locations = subject.grid(side)
        return lambda: ask(network, network.trigger(subject.image[None])[0], locations, chunk)

    return [_measure(side, run(side), _weight_bytes(network)) for side in sides]


def teacher_costs(teacher: Teacher, sides: Sequence[int], patience: float) -> list[Cost]:
    """Of the teacher on a square that has side x side of its patches.

    A side whose time, by the FLOPs so far, would pass `patience` seconds is not run. Its FLOPs
    follow from three smaller ones: in a transformer they are a + b n + c n^2 of its n patches.
    """
    patch = round(teacher.side / teacher.rows)
    costs: list[Cost] = []
    for side in sides:
        expected = _grown(costs, side)
        known = costs[-1] if costs else None
        if expected and known and known.seconds is not None:
            expected_time = known.seconds * expected / known.gflops
        else:
            expected_time = 0.0
        if expected and (expected_time > patience or (known and known.seconds is None)):
            costs.append(Cost(side, expected, None, None))
            continue
        square = torch.zeros(1, 3, side * patch, side * patch, dtype=torch.uint8)
        costs.append(
            _measure(side, lambda s=square: teacher(s), _weight_bytes(teacher.backbone.model))
        )
    return costs


def _grown(costs: list[Cost], side: int) -> float | None:
    """GFLOPs at a side, by the parabola through the last three that were counted."""
    counted = [cost for cost in costs if cost.seconds is not None][-3:]
    if len(counted) < 3:
        return None
    patches = np.array([cost.side**2 for cost in counted], dtype=float)
    curve = np.polyfit(patches, [cost.gflops for cost in counted], 2)
    return float(np.polyval(curve, side**2))


@torch.no_grad()
def _measure(side: int, run: Callable[[], object], weights: int) -> Cost:
    seconds = []
    with Counter() as counter:
        run()
    for _ in range(2):
        started = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    flops = sum(sum(part.values()) for part in counter.flops.values())
    return Cost(side, flops / 1e9, min(seconds), (counter.peak_bytes + weights) / 1e6)


def _weight_bytes(model: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())
