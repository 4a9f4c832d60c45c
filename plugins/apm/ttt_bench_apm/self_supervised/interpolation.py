"""Interpolation between two images: the trigger column moves, and the field is queried again."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench_apm.self_supervised.locations import Locations
from ttt_bench_apm.self_supervised.network import FieldValues, PerceptionField, query


@torch.no_grad()
def interpolate(
    network: PerceptionField,
    first: Float[Tensor, "3 side side"],
    second: Float[Tensor, "3 side side"],
    steps: int,
    locations: Locations,
    last: bool = False,
) -> Iterator[FieldValues]:
    """Yield the field of T1 + (T2 - T1) * i / steps, i from 0 to steps - 1.

    Args:
        network: the network.
        first: the image with the trigger column T1.
        second: the image with the trigger column T2.
        steps: equal parts of the way.
        locations: where to query the field.
        last: whether to yield the second image's field too, which the release never reaches.

    Source: arXiv 2410.20535, section 4.3, and its release.
    """
    start, end = network.trigger(torch.stack([first, second]))  # (n,) each
    for step in range(steps + last):
        yield query(network, start + (end - start) * step / steps, locations)
