"""The cost of querying the field, beside the teacher's, as the number of patches grows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ttt_bench import Counter
from ttt_bench_apm.self_supervised.network import query
from ttt_bench_apm.self_supervised.photograph import Photograph
from ttt_bench_apm.self_supervised.teacher import Teacher

SIDES = (7, 14, 28, 56, 112, 224)


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass.

    Attributes:
        side: patches, or locations, per side.
        gflops: GFLOPs, two for a multiply-add.
        seconds: wall time, the best of two runs; None for a pass that was not run.
        megabytes: the peak of live tensors, weights included; None for a pass that was not run.
    """

    side: int
    gflops: float
    seconds: float | None
    megabytes: float | None


def field_costs(photograph: Photograph, sides: Sequence[int], chunk: int) -> list[Cost]:
    """Measure the trigger and the field at side x side locations.

    Args:
        photograph: the photograph before its network.
        sides: the numbers of locations per side.
        chunk: locations that are computed together.
    """
    network = photograph.network

    def forward(side: int) -> Callable[[], object]:
        locations = photograph.grid(side)
        return lambda: query(network, network.trigger(photograph.image[None])[0], locations, chunk)

    return [_measure(side, forward(side), network) for side in sides]


def teacher_costs(teacher: Teacher, sides: Sequence[int], patience: float) -> list[Cost]:
    """Measure the teacher on images of side x side of its patches.

    A pass is not run if it would take longer than `patience`, judged by its FLOPs and the time of
    the side before. Its FLOPs follow from those of three smaller sides: a transformer needs
    a + b n + c n^2 for n patches.

    Args:
        teacher: the teacher.
        sides: the numbers of patches per side, in rising order.
        patience: seconds that one pass may take.
    """
    patch = round(teacher.side / teacher.rows)
    costs: list[Cost] = []
    for side in sides:
        gflops = _extrapolate_gflops(costs, side)
        if gflops is not None and _is_too_slow(costs[-1], gflops, patience):
            costs.append(Cost(side, gflops, None, None))
            continue
        blank = torch.zeros(1, 3, side * patch, side * patch, dtype=torch.uint8)
        forward = lambda blank=blank: teacher(blank)  # noqa: E731
        costs.append(_measure(side, forward, teacher.backbone.model))
    return costs


def _is_too_slow(previous: Cost, gflops: float, patience: float) -> bool:
    """Judge a pass by its GFLOPs and by the pass on the side before it."""
    if previous.seconds is None:
        return True
    return previous.seconds * gflops / previous.gflops > patience


def _extrapolate_gflops(costs: list[Cost], side: int) -> float | None:
    """Return GFLOPs by the parabola through the last three counted sides, None before there are."""
    counted = [cost for cost in costs if cost.seconds is not None][-3:]
    if len(counted) < 3:
        return None
    patches = np.array([cost.side**2 for cost in counted], dtype=float)
    curve = np.polyfit(patches, [cost.gflops for cost in counted], 2)
    return float(np.polyval(curve, side**2))


@torch.no_grad()
def _measure(side: int, forward: Callable[[], object], model: nn.Module) -> Cost:
    """Run a forward pass under the counters, then twice against the clock."""
    with Counter() as counter:
        forward()
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        forward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    flops = sum(sum(directions.values()) for directions in counter.flops.values())
    weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    return Cost(side, flops / 1e9, min(seconds), (counter.peak_bytes + weight_bytes) / 1e6)
