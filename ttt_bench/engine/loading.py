"""From a name that the user typed to the dataset or backbone it stands for."""

from pathlib import Path

import torch

from ttt_bench.backbones.base import Backbone
from ttt_bench.datasets.base import Dataset
from ttt_bench.errors import UserError
from ttt_bench.plugins import registry


def load_dataset(name: str, data_root: Path | None = None) -> Dataset:
    """The dataset a name stands for.

    Raises:
        UserError: there is none of that name, or its data is missing.
    """
    spec = registry().datasets.find(name).spec
    return spec.load()(name.partition(":")[2], data_root)


def backbone_type(name: str, weights: Path | None = None) -> type[Backbone]:
    """The class of the backbone a name stands for.

    Raises:
        UserError: there is none of that name, or it takes no file of weights and gets one.
    """
    kind = registry().backbones.find(name).spec.load()
    if weights is not None and not kind.takes_weights:
        raise UserError(f"{name} brings its own weights; leave --weights out")
    return kind


def load_backbone(name: str, device: str = "auto", weights: Path | None = None) -> Backbone:
    """The backbone a name stands for, on a device, with its own weights or those of a file.

    Raises:
        UserError: there is none of that name, or its weights are missing or do not fit.
    """
    kind = backbone_type(name, weights)
    return kind(name.partition(":")[2], torch.device(choose_device(device)), weights)


def default_backbone(dataset: str, family: str = "clip") -> str:
    """The name of the backbone that a dataset names for a family of methods.

    Raises:
        UserError: it names none, or there is no such dataset.
    """
    spec = registry().datasets.find(dataset).spec
    if family not in spec.backbones:
        raise UserError(
            f"{spec.name} names no default backbone for {family} methods; give --backbone"
        )
    return spec.backbones[family]


def choose_device(name: str) -> str:
    """`auto` is the first of cuda, mps and cpu that is there."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
