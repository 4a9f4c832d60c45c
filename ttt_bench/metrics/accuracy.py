"""Accuracies, in percent."""

import numpy as np

from ttt_bench.records import Records


def top1(records: Records) -> float:
    """Share of samples whose last prediction is right."""
    return percent(records.correct)


def top5(records: Records) -> float:
    """Share of samples whose label is among the five highest logits."""
    best = np.argsort(-records.logits, axis=1, kind="stable")[:, :5]
    return percent((best == records.label[:, None]).any(axis=1))


def oracle_top1(records: Records) -> float:
    """Share of samples that were right after at least one step.

    An upper bound that peeks at the labels: no rule that sees only the image can reach it by
    right. For a method that does not iterate it equals top-1.
    """
    return percent(records.correct_at_any_step)


def groups(records: Records) -> dict[str, float]:
    """Top-1 of each corruption or domain; empty where the dataset has none."""
    names = [name for name in dict.fromkeys(records.group) if name is not None]
    member = np.array(records.group, dtype=object)
    return {name: percent(records.correct[member == name]) for name in names}


def percent(right: np.ndarray) -> float:
    """A share as a percentage."""
    return float(100 * np.mean(right))
