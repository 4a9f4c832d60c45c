"""Accuracies, in percent."""

from collections import Counter
from itertools import compress

import numpy as np
from jaxtyping import Bool

from ttt_bench.api.records import Records
from ttt_bench.datasets.corruptions import SHORT_NAMES

IMAGENET_CLASSES = 1000

# AlexNet's top-1 errors in percent, the mean over the five severities, as the authors of ImageNet-C
# published them (github.com/hendrycks/robustness).
ALEXNET_ERRORS = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}


def top1(records: Records) -> float:
    """Return the share of samples whose last prediction is right."""
    return percent(records.correct)


def top5(records: Records) -> Bool[np.ndarray, " samples"]:
    """Return for each sample whether its label is among the five highest logits."""
    logits, label = records.required_logits(), records.label[:, None]
    of_label = np.take_along_axis(logits, label, axis=1)
    rank = np.count_nonzero(logits > of_label, axis=1)
    tied = np.flatnonzero(np.count_nonzero(logits == of_label, axis=1) > 1)
    # Of equal logits that of the lower class comes first, as in a stable sort.
    before = np.arange(logits.shape[1]) < label[tied]
    rank[tied] += np.count_nonzero((logits[tied] == of_label[tied]) & before, axis=1)
    return rank < 5


def error_rate(records: Records) -> float:
    """Return the share of samples whose last prediction is wrong."""
    return percent(~records.correct)


def mean_per_class(records: Records) -> float:
    """Return the mean over the classes that occur of their shares of right predictions."""
    samples = np.bincount(records.label)
    correct = np.bincount(records.label[records.correct], minlength=len(samples))
    return float(np.mean(100 * correct[samples > 0] / samples[samples > 0]))


def groups(records: Records) -> dict[str, float]:
    """Return the top-1 of each corruption or domain, nothing where the dataset has none."""
    samples = Counter(records.group)
    correct = Counter(compress(records.group, records.correct.tolist()))
    return {
        name: 100 * (correct[name] / count) for name, count in samples.items() if name is not None
    }


def corruptions(records: Records) -> dict[str, float]:
    """Return the top-1 of each of ImageNet-C's corruptions that occurs, in the papers' order.

    A corruption at several severities counts with their mean. A group is named after a corruption,
    such as `fog`, or after one severity of it, such as `fog@3`.
    """
    severities: dict[str, list[float]] = {}
    for group, accuracy in groups(records).items():
        severities.setdefault(group.partition("@")[0], []).append(accuracy)
    return {
        name: sum(severities[name]) / len(severities[name])
        for name in SHORT_NAMES
        if name in severities
    }


def mean_corruption(records: Records) -> float | None:
    """Return the mean over the 15 corruptions, without clean images; None where one is missing.

    Source: Gandelsman et al. 2022, table 1.
    """
    accuracies = corruptions(records).values()
    return sum(accuracies) / len(accuracies) if len(accuracies) == len(SHORT_NAMES) else None


def mce(records: Records) -> float | None:
    """Return the mean corruption error: the mean ratio of errors to AlexNet's, in percent.

    None where AlexNet's errors do not apply: they are for the 15 corruptions of ImageNet's 1000
    classes, each at all five severities.

    Source: Hendrycks and Dietterich 2019, arXiv 1903.12261, section 4.1.
    """
    if records.classes != IMAGENET_CLASSES:
        return None
    wanted = {f"{name}@{severity}" for name in ALEXNET_ERRORS for severity in range(1, 6)}
    if not wanted <= set(records.group):
        return None
    accuracy = corruptions(records)
    ratios = [(100 - accuracy[name]) / error for name, error in ALEXNET_ERRORS.items()]
    return 100 * sum(ratios) / len(ratios)


def percent(right: np.ndarray) -> float:
    """Return a share as a percentage."""
    return float(100 * np.mean(right))
