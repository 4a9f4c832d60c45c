"""The cost of a sample, counted on a few of them in the batches in which they come."""

from collections.abc import Callable, Sequence
from typing import Any

from ttt_bench.api import cost
from ttt_bench.api.backbone import Backbone

PROBED_BATCHES = 2


def count_costs(
    predict: Callable[[Sequence[int]], None],
    batches: Sequence[Sequence[int]],
    backbone: Backbone,
    setup: cost.Counter,
    remembers: bool = False,
) -> dict[str, Any]:
    """Count what a sample costs, on the first few batches: its share of what a batch costs.

    Args:
        predict: predicts the samples of a batch.
        batches: full batches of the run's samples; of one sample each for the kind `sample`.
        backbone: the backbone that the method runs on.
        setup: what the method's setup cost.
        remembers: whether what a batch leaves in memory stays, as in a stream.

    Returns:
        FLOPs of the setup (once per task) and of a sample, by phase and direction; bytes at the
        peak; parameters of the backbone and parameters updated; the number of samples counted.
    """
    counters, peaks, probed = [], list[int](), batches[:PROBED_BATCHES]
    samples = sum(map(len, probed))
    for batch in probed:
        kept = sum(counter.live_bytes for counter in counters) if remembers else 0
        with cost.Counter() as counter:
            predict(batch)
        counters.append(counter)
        peaks.append(kept + counter.peak_bytes)
    per_sample = {
        phase: {
            direction: sum(c.flops[phase][direction] for c in counters) / samples
            for direction in ("forward", "backward")
        }
        for phase in ("frozen", "adapted")
    }
    resident = cost.weight_bytes(backbone.model) + setup.live_bytes
    return {
        "probed_samples": samples,
        "setup_flops": dict(setup.flops["setup"]),
        "flops_per_sample": per_sample,
        "peak_memory_bytes": resident + max(peaks),
        "backbone_parameters": sum(parameter.numel() for parameter in backbone.model.parameters()),
        "parameters_updated": max(sum(c.parameters.values()) for c in counters),
    }
