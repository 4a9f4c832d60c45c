"""The summary of a run, made from its records alone: no torch, so old runs rescore at once."""

import sys
from collections.abc import Mapping
from typing import Any

from ttt_bench.api.records import Records
from ttt_bench.registry import registry
from ttt_bench.runs.card import Card


def summarize(card: Card, records: Records, counted: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics and cost of finished records, as `run --format json` prints them."""
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
        "method": card.method["method"],
        "dataset": card.protocol["dataset"],
        "backbone": card.method["backbone"],
        "n": len(records),
        **scores,
        "cost": {
            "gflops_per_sample": flops / 1e9,
            "peak_memory_mb": counted["peak_memory_bytes"] / 1e6,
            "ms_per_sample": 1000 * records.seconds / len(records),
            "parameters_updated": counted["parameters_updated"],
        },
        "kind": card.method["kind"],
        "labelled_data": card.method["labelled_data"],
        "known_failures": card.method["known_failures"],
        "fingerprint": card.fingerprint,
    }
