"""The checks of the conformance kit, one file for each promise of a method."""

from ttt_bench.testing.checks import (
    capabilities,
    configuration,
    degenerate_inputs,
    independence,
    labels,
    memory,
    predictions,
    randomness,
    reset,
    streams,
)

__all__ = [
    "capabilities",
    "configuration",
    "degenerate_inputs",
    "independence",
    "labels",
    "memory",
    "predictions",
    "randomness",
    "reset",
    "streams",
]
