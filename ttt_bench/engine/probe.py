"""The cost of a sample, counted on a few of them."""

from collections.abc import Callable, Sequence
from typing import Any

from ttt_bench.api import cost
from ttt_bench.api.backbone import Backbone

PROBED_SAMPLES = 2


def count_costs(
    predict: Callable[[int], None],
    indices: Sequence[int],
    backbone: Backbone,
    setup: cost.Counter,
) -> dict[str, Any]:
    """Count what a sample costs, on the first few of them, one at a time.

    Args:
        predict: predicts the sample of an index.
        indices: the run's samples.
        backbone: the backbone that the method runs on.
        setup: what the method's setup cost.

    Returns:
        FLOPs of the setup (once per task) and of a sample, by phase and direction; bytes at the
        peak; parameters of the backbone and parameters updated; the number of samples counted.
    """
    counters = []
    for index in indices[:PROBED_SAMPLES]:
        with cost.Counter() as counter:
            predict(index)
        counters.append(counter)
    per_sample = {
        phase: {
            direction: sum(c.flops[phase][direction] for c in counters) / len(counters)
            for direction in ("forward", "backward")
        }
        for phase in ("frozen", "adapted")
    }
    resident = cost.weight_bytes(backbone.model) + setup.live_bytes
    return {
        "probed_samples": len(counters),
        "setup_flops": dict(setup.flops["setup"]),
        "flops_per_sample": per_sample,
        "peak_memory_bytes": resident + max(counter.peak_bytes for counter in counters),
        "backbone_parameters": sum(parameter.numel() for parameter in backbone.model.parameters()),
        "parameters_updated": max(sum(c.parameters.values()) for c in counters),
    }
