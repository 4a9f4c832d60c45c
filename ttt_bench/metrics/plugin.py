"""The built-in metrics, registered like any other plugin's."""

from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.api.specs import MetricSpec, ShownIn

ACCURACY = {
    "top1": "share of samples whose last prediction is right, percent",
    "top5": "share of samples whose label is among the five highest logits, percent",
    "error_rate": "share of samples whose last prediction is wrong, percent",
    "mean_per_class": "mean over the classes of the share that is right, percent",
    "groups": "top-1 of each corruption or domain, percent",
    "corruptions": "top-1 of each of ImageNet-C's corruptions, over its severities, percent",
    "mce": "mean corruption error against AlexNet's, percent; ImageNet-C at all severities only",
    "mean_corruption": "mean top-1 over all 15 corruptions, percent; none where one is missing",
}
CALIBRATION = {
    "ece": "expected calibration error over 15 bins, percentage points",
    "nll": "mean negative log likelihood of the labels, nats",
    "brier": "mean squared distance of the probabilities from the labels, 0 to 2",
}
STEPS = {
    "oracle_top1": "share of samples right after any step, percent: an upper bound with labels",
    "oracle_gap": "what choosing the step by the labels would gain, percentage points",
    "step_top1": "top-1 after each step, percent",
    "changed": "predictions that the adaptation changed, helped and harmed, percent",
}
ONLINE = {
    "first_tenth": "top-1 on the first tenth of each stream, percent; online methods only",
    "last_tenth": "top-1 on the last tenth of each stream, percent; online methods only",
    "revisited_top1": "top-1 on the first group when it comes again (--revisit), percent",
    "revisited_change": "what that top-1 has changed by since the first visit, percentage points",
}
OVERVIEW = {"top1": "top-1 %", "top5": "top-5 %", "oracle_top1": "oracle top-1 %"}
PER_SAMPLE = ("top5", "nll", "brier")
LOWER_IS_BETTER = ("error_rate", "ece", "nll", "brier", "mce", "oracle_gap")
# The tables by corruption or domain show the first four, a figure the last one.
ELSEWHERE = ("groups", "corruptions", "mean_corruption", "mce", "step_top1")


@hookimpl
def ttt_bench_metrics() -> list[MetricSpec]:
    """Return the metrics of accuracy, of calibration, of the step trajectory and of streams."""
    modules = {
        "accuracy": ACCURACY,
        "calibration": CALIBRATION,
        "steps": STEPS,
        "streams": ONLINE,
    }
    return [
        MetricSpec(
            name=name,
            summary=summary,
            code=f"ttt_bench.metrics.{module}:{name}",
            per_sample=name in PER_SAMPLE,
            lower_is_better=name in LOWER_IS_BETTER,
            heading=OVERVIEW.get(name, ""),
            shown_in=_shown_in(name),
        )
        for module, summaries in modules.items()
        for name, summary in summaries.items()
    ]


def _shown_in(name: str) -> ShownIn:
    if name in OVERVIEW:
        return "overview"
    return "elsewhere" if name in ELSEWHERE else "others"
