"""The summary of a run, made from its records alone: no torch, so old runs rescore at once."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from ttt_bench.api.records import Records
from ttt_bench.api.text import plain
from ttt_bench.metrics.values import MetricError, score
from ttt_bench.registry import registry
from ttt_bench.runs.card import Card


def print_warning(message: str) -> None:
    """Print a line to standard error."""
    print(plain(message), file=sys.stderr)


def summarize(
    card: Card,
    records: Records,
    counted: Mapping[str, Any],
    warn: Callable[[str], object] = print_warning,
) -> dict[str, Any]:
    """Return metrics and cost of finished records, as `run --format json` prints them.

    A metric that fails or gives no score is left out of the summary.

    Args:
        card: the run's protocol card.
        records: its records.
        counted: its costs, as `cost.json` holds them.
        warn: is told, in one line, of each metric that is left out.
    """
    scores: dict[str, Any] = {}
    for name, item in registry().metrics.items():
        try:
            scores[name] = score(item.spec.load, records)
        except MetricError as error:
            warn(f"metric {name} of plugin {item.plugin.name} {error}; it is left out")
    per_phase = counted["flops_per_sample"].values()
    flops = sum(phase["forward"] + phase["backward"] for phase in per_phase)
    kind, config = card.method["kind"], card.method["config"]
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
        "kind": kind,
        "batch_size": None if kind == "sample" else config.get("batch_size"),
        "labelled_data": card.method["labelled_data"],
        "known_failures": card.method["known_failures"],
        "fingerprint": card.fingerprint,
    }
