"""The built-in metrics, registered like any other plugin's."""

from ttt_bench.hookspecs import hookimpl
from ttt_bench.specs import MetricSpec

SUMMARIES = {
    "top1": "share of samples whose last prediction is right, percent",
    "top5": "share of samples whose label is among the five highest logits, percent",
    "groups": "top-1 of each corruption or domain, percent",
    "corruptions": "top-1 of each of ImageNet-C's corruptions, over its severities, percent",
    "mean_corruption": "mean of those over all 15, percent; nothing where one is missing",
    "oracle_top1": "share of samples right after any step, percent: an upper bound with labels",
}


@hookimpl
def ttt_bench_metrics() -> list[MetricSpec]:
    """Accuracy, by sample, by group and over the steps."""
    return [
        MetricSpec(name=name, summary=summary, code=f"ttt_bench.metrics.accuracy:{name}")
        for name, summary in SUMMARIES.items()
    ]
