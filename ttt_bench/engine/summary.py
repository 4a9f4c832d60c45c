"""The summary of a run, made from its records alone: no torch, so old runs rescore at once."""

import sys
from collections.abc import Mapping
from typing import Any

from ttt_bench.plugins import registry
from ttt_bench.protocol import Card
from ttt_bench.records import Records


def summarize(card: Card, records: Records, counted: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics and cost of finished records, as `run --format json` prints them."""
    scores: dict[str, Any] = {}
    for name, item in registry().metrics.items():
        try:
            scores[name] = item.spec.load()(records)
        # Somebody else's metric must not take the run's result with it.
        except Exception as error:
            print(f"metric {name} of plugin {item.plugin.name} failed: {error}", file=sys.stderr)
    per_phase = counted["flops_per_sample"].values()
    flops = sum(phase["forward"] + phase["backward"] for phase in per_phase)
    return {
        "method": card.row["method"],
        "dataset": card.column["dataset"],
        "backbone": card.row["backbone"],
        "n": len(records),
        **scores,
        "cost": {
            "gflops_per_sample": flops / 1e9,
            "peak_memory_mb": counted["peak_memory_bytes"] / 1e6,
            "ms_per_sample": 1000 * records.seconds / len(records),
            "parameters_updated": counted["parameters_updated"],
        },
        "labelled_data": card.row["labelled_data"],
        "fingerprint": card.fingerprint,
    }
