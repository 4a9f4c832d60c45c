"""What the releases set for each of the papers' datasets, by the dataset's name."""

from collections.abc import Mapping
from typing import Any

Presets = Mapping[str, Mapping[str, Any]]

CHOSEN = "chosen per test set by the authors"
COUNTED = "the number of test images, which the authors know in advance"

SHIFTED = ("imagenet-a", "imagenet-v2", "imagenet-r", "imagenet-sketch")
# TDA's positive cache: alpha and beta.
TDA_VALUES = {
    "imagenet": (2.0, 5.0),
    "imagenet-a": (2.0, 5.0),
    "imagenet-v2": (1.0, 8.0),
    "imagenet-r": (1.0, 8.0),
    "imagenet-sketch": (2.363, 7.45),
    "caltech101": (5.0, 5.0),
    "dtd": (2.0, 3.0),
    "eurosat": (4.0, 8.0),
    "fgvc-aircraft": (2.0, 2.0),
    "food101": (1.0, 1.0),
    "flowers102": (1.0, 5.0),
    "oxford-pets": (2.0, 7.0),
    "stanford-cars": (1.0, 7.0),
    "sun397": (2.0, 3.0),
    "ucf101": (3.0, 8.0),
}
# The release has no view besides the image of ImageNet, so it has no booster there.
BOOSTADAPTER_DELTAS = {
    "imagenet-a": 3,
    "imagenet-v2": 1,
    "imagenet-r": 3,
    "imagenet-sketch": 1,
    "caltech101": 2,
    "dtd": 0,
    "eurosat": 0,
    "fgvc-aircraft": 2,
    "food101": 3,
    "flowers102": 0,
    "oxford-pets": 0,
    "stanford-cars": 3,
    "sun397": 1,
    "ucf101": 0,
}
# DPE: alpha, beta, learning rate, weight of the alignment.
DPE_VALUES = {
    "imagenet": (6.0, 5.0, 6e-4, 0.5),
    "imagenet-a": (6.0, 5.0, 3e-4, 2.5),
    "imagenet-v2": (3.0, 8.0, 5e-4, 0.5),
    "imagenet-r": (3.0, 8.0, 6e-4, 0.0),
    "imagenet-sketch": (7.0, 7.45, 6e-4, 0.2),
    "caltech101": (15.0, 5.0, 6e-4, 0.2),
    "dtd": (6.0, 3.0, 6e-4, 0.2),
    "eurosat": (3.0, 8.0, 5e-5, 0.2),
    "fgvc-aircraft": (6.0, 2.0, 6e-4, 0.2),
    "food101": (3.0, 1.0, 2e-4, 0.2),
    "flowers102": (2.5, 5.0, 1e-4, 0.2),
    "oxford-pets": (4.0, 7.0, 5e-5, 0.2),
    "stanford-cars": (3.0, 7.0, 1e-4, 1.5),
    "sun397": (6.0, 3.0, 2e-4, 0.2),
    "ucf101": (9.0, 8.0, 4e-4, 0.2),
}
# Images of a stream of `--stream grouped`, without `--limit`.
STREAM_LENGTHS = {
    "imagenet": 50_000,
    "imagenet-a": 7_500,
    "imagenet-v2": 10_000,
    "imagenet-r": 30_000,
    "imagenet-sketch": 50_889,
    "imagenet-c": 50_000,
    "cifar10-c-mini": 200,
    "cifar10": 10_000,
    "cifar10-c": 10_000,
    "caltech101": 2_465,
    "dtd": 1_692,
    "eurosat": 8_100,
    "fgvc-aircraft": 3_333,
    "food101": 30_300,
    "flowers102": 2_463,
    "oxford-pets": 3_669,
    "stanford-cars": 8_041,
    "sun397": 19_850,
    "ucf101": 3_783,
}


def tda() -> Presets:
    """Return TDA's presets; views besides the image are seen on the shifted ImageNets alone."""
    return {
        name: {"alpha": alpha, "beta": beta, **({} if name in SHIFTED else {"views": 1})}
        for name, (alpha, beta) in TDA_VALUES.items()
    }


def boostadapter() -> Presets:
    """Return BoostAdapter's presets: TDA's values, and its own delta."""
    presets: dict[str, dict[str, Any]] = {}
    for name, (alpha, beta) in TDA_VALUES.items():
        delta = BOOSTADAPTER_DELTAS.get(name)
        own = {"views": 1} if delta is None else {"delta": delta}
        seen_as = {} if name in SHIFTED or delta is None else {"seen_as": "image"}
        presets[name] = {"alpha": alpha, "beta": beta, **own, **seen_as}
    return presets


def dpe() -> Presets:
    """Return DPE's presets; the fine-grained datasets are seen without views."""
    presets: dict[str, dict[str, Any]] = {}
    for name, (alpha, beta, lr, align) in DPE_VALUES.items():
        views = {} if name.startswith("imagenet") else {"views": 1}
        presets[name] = {"alpha": alpha, "beta": beta, "lr": lr, "align": align, **views}
    presets["imagenet-a"]["predict_from"] = "views"
    return presets


def onzeta() -> Presets:
    """Return the lengths of the streams."""
    return {name: {"length": length} for name, length in STREAM_LENGTHS.items()}
