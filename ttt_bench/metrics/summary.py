"""The summary of a run, made from its records alone: no torch, so old runs rescore at once."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ttt_bench.api.records import Records
from ttt_bench.api.text import plain
from ttt_bench.metrics.scoring import score_parts
from ttt_bench.metrics.streams import collapsed_streams
from ttt_bench.registry import registry
from ttt_bench.runs.card import Card
from ttt_bench.runs.parts import Part


def print_warning(message: str) -> None:
    """Print a line to standard error."""
    print(plain(message), file=sys.stderr)


def summarize(
    card: Card,
    parts: Sequence[Part],
    counted: Mapping[str, Any],
    warn: Callable[[str], object] = print_warning,
    revisited: Sequence[Part] = (),
) -> tuple[dict[str, Any], Records]:
    """Return metrics and cost of a finished run, as `run --format json` prints them.

    A metric that fails or gives no score is left out of the summary.

    Args:
        card: the run's protocol card.
        parts: its records in parts, as `RunFolder.parts` gives them.
        counted: its costs, as `cost.json` holds them.
        warn: is told, in one line, of each metric that is left out.
        revisited: the parts of what came again at the end of a stream.

    Returns:
        The summary, and the records without their logits.

    Raises:
        UserError: a part is missing or damaged.
    """
    scores = score_parts(parts, len(card.protocol["class_names"]), revisited)
    records = scores.records
    for name, error in scores.failed.items():
        plugin = registry().metrics.find(name).plugin.name
        warn(f"metric {name} of plugin {plugin} {error}; it is left out")
    per_phase = counted["flops_per_sample"].values()
    flops = sum(phase["forward"] + phase["backward"] for phase in per_phase)
    kind, config = card.method["kind"], card.method["config"]
    summary = {
        "method": card.method["method"],
        "dataset": card.protocol["dataset"],
        "backbone": card.method["backbone"],
        "precision": card.method["precision"],
        "seed": card.protocol["seed"],
        "n": len(records),
        **scores.values,
        "cost": {
            "gflops_per_sample": flops / 1e9,
            "peak_memory_mb": counted["peak_memory_bytes"] / 1e6,
            "ms_per_sample": 1000 * records.seconds / len(records),
            "parameters_updated": counted["parameters_updated"],
        },
        "kind": kind,
        "batch_size": None if kind == "sample" else config.get("batch_size"),
        **_stream_facts(card, records),
        "labelled_data": card.method["labelled_data"],
        "known_failures": card.method["known_failures"],
        **_preset_facts(card),
        **_prompt_facts(config),
        "fingerprint": card.fingerprint,
    }
    return summary, records


def _preset_facts(card: Card) -> dict[str, Any]:
    """Return what a summary says of the dataset's preset, nothing where none is in force."""
    preset = card.method.get("dataset_preset")
    return {} if preset is None else {"dataset_preset": preset}


def _prompt_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that say how a method's prompts differ from the protocol's, if they do."""
    given = {name: config.get(name) for name in ("prompts", "descriptions")}
    other = {name: value for name, value in given.items() if value not in (None, "", "protocol")}
    return {"other_prompts": other} if other else {}


def _stream_facts(card: Card, records: Records) -> dict[str, Any]:
    """Return what a summary says of the streams of an online method, nothing for other methods."""
    stream = card.method.get("stream")
    if stream is None:
        return {}
    return {
        "stream": stream["name"],
        "correlation": stream["correlation"],
        "revisited": stream["revisited"],
        "collapsed": collapsed_streams(records),
    }
