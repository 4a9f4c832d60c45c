"""From one image to another: the trigger column moves, and every location answers again."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench_apm.self_supervised.locations import Locations
from ttt_bench_apm.self_supervised.network import Percept, PerceptionField, ask


@torch.no_grad()
def interpolate(
    network: PerceptionField,
    one: Float[Tensor, "3 side side"],
    other: Float[Tensor, "3 side side"],
    steps: int,
    locations: Locations,
    last: bool = False,
) -> Iterator[Percept]:
    """What the field answers for T1 + (T2 - T1) * i / steps, i from 0 to steps - 1.

    As released the second image itself is never reached; with `last` it is, as one answer more.
    Source: arXiv 2410.20535, section 4.3, and its release.
    """
    start, end = network.trigger(torch.stack([one, other]))
    for step in range(steps + last):
        yield ask(network, start + (end - start) * step / steps, locations)
