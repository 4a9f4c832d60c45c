"""Accuracies, in percent."""

import numpy as np

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
    """Share of samples whose last prediction is right."""
    return percent(records.correct)


def top5(records: Records) -> float:
    """Share of samples whose label is among the five highest logits."""
    best = np.argsort(-records.logits, axis=1, kind="stable")[:, :5]
    return percent((best == records.label[:, None]).any(axis=1))


def error_rate(records: Records) -> float:
    """Share of samples whose last prediction is wrong."""
    return percent(~records.correct)


def mean_per_class(records: Records) -> float:
    """The mean over the classes that occur of the share of each that is right."""
    shares = [percent(records.correct[records.label == c]) for c in np.unique(records.label)]
    return float(np.mean(shares))


def groups(records: Records) -> dict[str, float]:
    """Top-1 of each corruption or domain; empty where the dataset has none."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(records.group):
        if name is not None:
            places.setdefault(name, []).append(place)
    return {name: percent(records.correct[own]) for name, own in places.items()}


def corruptions(records: Records) -> dict[str, float]:
    """Top-1 of each of ImageNet-C's corruptions that is there, the mean over its severities.

    In the papers' order. Groups are called as the corruption, or `fog@3` for one severity of it.
    """
    found: dict[str, list[float]] = {}
    for group, accuracy in groups(records).items():
        found.setdefault(group.partition("@")[0], []).append(accuracy)
    return {name: sum(found[name]) / len(found[name]) for name in SHORT_NAMES if name in found}


def mean_corruption(records: Records) -> float | None:
    """The mean over the 15 corruptions, None where one is missing; clean images are not in it.

    Source: Gandelsman et al. 2022, table 1.
    """
    found = corruptions(records)
    return sum(found.values()) / len(found) if len(found) == len(SHORT_NAMES) else None


def mce(records: Records) -> float | None:
    """Mean corruption error: each corruption's error over AlexNet's, their mean in percent.

    None where AlexNet's errors do not apply: they are of ImageNet's 1000 classes under the 15
    corruptions, each at all five severities.

    Source: Hendrycks and Dietterich 2019, arXiv 1903.12261, section 4.1.
    """
    found = groups(records)
    wanted = [f"{name}@{severity}" for name in ALEXNET_ERRORS for severity in range(1, 6)]
    if records.logits.shape[1] != IMAGENET_CLASSES or not set(wanted) <= set(found):
        return None
    accuracy = corruptions(records)
    ratios = [(100 - accuracy[name]) / error for name, error in ALEXNET_ERRORS.items()]
    return 100 * sum(ratios) / len(ratios)


def percent(right: np.ndarray) -> float:
    """A share as a percentage."""
    return float(100 * np.mean(right))
