"""Accuracies, in percent."""

import numpy as np

from ttt_bench.datasets.corruptions import SHORT_NAMES
from ttt_bench.records import Records


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
    names = [name for name in dict.fromkeys(records.group) if name is not None]
    member = np.array(records.group, dtype=object)
    return {name: percent(records.correct[member == name]) for name in names}


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


def percent(right: np.ndarray) -> float:
    """A share as a percentage."""
    return float(100 * np.mean(right))
