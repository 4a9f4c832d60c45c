"""`torchvision:NAME[/WEIGHTS]`: torchvision's classifiers with its published weights."""

import contextlib
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
import torchvision
from torch import nn
from torchvision.models import WeightsEnum
from torchvision.transforms import CenterCrop, Normalize, Resize, ToTensor
from typing_extensions import override

from ttt_bench.api.backbone import BatchNormClassifier
from ttt_bench.api.errors import UserError, unknown
from ttt_bench.api.specs import BackboneSpec
from ttt_bench.backbones.linear_head import LinearHeadBackbone, head_name
from ttt_bench.backbones.published_weights import load_published
from ttt_bench.backbones.weights_file import fill, head_outputs, read_state_dict
from ttt_bench.toolkit.checkpoints import file_hash, read_checkpoint

DEFAULT = "DEFAULT"
# The beginning of the SHA-256 in the name of a published file, as `resnet50-0676ba61.pth`.
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.")


class TorchvisionBackbone(LinearHeadBackbone):
    """`torchvision:NAME` or `torchvision:NAME/WEIGHTS`, as `torchvision:resnet50/IMAGENET1K_V2`.

    WEIGHTS is a member of the model's weights enum; without one it is the enum's `DEFAULT`. They
    decide the transform too. A file of weights may have a head of any number of classes.

    Raises:
        UserError: there is no such model or no such weights, they cannot be loaded or are not the
            published ones, or the model's last layer is not linear.
    """

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self.name = f"torchvision:{argument}"
        architecture, published = _find_weights(argument)
        preset = published.transforms()
        self._crop, self._resize = int(preset.crop_size[0]), int(preset.resize_size[0])
        self._preset = preset
        if weights is None:
            model = _load_published(self.name, architecture, published)
            self._recorded = {"published": f"{type(published).__name__}.{published.name}"}
        else:
            model, self._recorded = _build_for(architecture, weights)
        self._adopt(model, device, self._crop)

    @override
    def _steps(self, size: int) -> list[Any]:
        resize, preset = round(self._resize * size / self._crop), self._preset
        return [
            Resize(resize, preset.interpolation, antialias=preset.antialias),
            CenterCrop(size),
            ToTensor(),
            Normalize(preset.mean, preset.std),
        ]

    @override
    def _transform_card(self) -> dict[str, Any]:
        return {
            "resize": self._resize,
            "crop": self._crop,
            "interpolation": self._preset.interpolation.value,
            "mean": list(self._preset.mean),
            "std": list(self._preset.std),
        }


class TorchvisionBatchNormBackbone(TorchvisionBackbone, BatchNormClassifier):
    """A model of torchvision with BatchNorm2d layers."""


def spec_of_model(spec: BackboneSpec, argument: str) -> BackboneSpec:
    """Return the spec of `torchvision:ARGUMENT`: BatchNorm2d layers are one more capability.

    Args:
        spec: the spec of all models.
        argument: the model's name, perhaps with its weights.
    """
    if not _has_batch_norm(argument.partition("/")[0]):
        return spec
    code = f"{__name__}:{TorchvisionBatchNormBackbone.__name__}"
    return replace(spec, code=code, gives=spec.gives | {BatchNormClassifier.__name__})


@cache
def _has_batch_norm(architecture: str) -> bool:
    """Say whether a model has BatchNorm2d layers, without memory for its weights."""
    if architecture not in _names():
        return False
    with torch.device("meta"):
        model = torchvision.models.get_model(architecture, weights=None)
    return any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def _names() -> list[str]:
    """Return the names of torchvision's classifiers."""
    return torchvision.models.list_models(module=torchvision.models)


def _find_weights(argument: str) -> tuple[str, WeightsEnum]:
    """Return the model's name and its weights.

    Raises:
        UserError: there are none of these names.
    """
    architecture, _, name = argument.partition("/")
    if architecture not in _names():
        raise unknown("torchvision model", architecture, _names())
    enum = torchvision.models.get_model_weights(architecture)
    # As torchvision prints it: `ResNet50_Weights.IMAGENET1K_V2`.
    member = (name or DEFAULT).removeprefix(f"{enum.__name__}.")
    if member not in enum.__members__:
        raise unknown(f"weights of torchvision:{architecture}", member, enum.__members__)
    return architecture, enum[member]


def _load_published(name: str, architecture: str, weights: WeightsEnum) -> nn.Module:
    """Build a model with published weights, from torch's cache of files or the network.

    Raises:
        UserError: they cannot be loaded, or the file in the cache is not the published one.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(weights.url).path).name
    if file.exists():
        _require_published(name, file)
    # torchvision writes to standard output what it downloads.
    with contextlib.redirect_stdout(sys.stderr):
        return load_published(
            name,
            None,
            weights.url,
            lambda: torchvision.models.get_model(architecture, weights=weights),
        )


def _require_published(name: str, file: Path) -> None:
    """Refuse a file in the cache whose hash is not that in its name, or that holds code.

    torch compares the hash only after a download.

    Raises:
        UserError: it is one.
    """
    published = HASH_IN_NAME.search(file.name)
    if published and not file_hash(file).startswith(published[1]):
        raise UserError(
            f"{name}: {file} is not the published file (its SHA-256 does not begin with "
            f"{published[1]}); remove it, or give it by --weights"
        )
    read_checkpoint(file)


def _build_for(architecture: str, weights: Path) -> tuple[nn.Module, Mapping[str, str]]:
    """Build a model with the head that a file of weights has, and fill it.

    Returns:
        The model, and what `fill` adds to the protocol card.
    """
    state = read_state_dict(weights)
    model = torchvision.models.get_model(architecture, weights=None)
    head = head_name(model)
    outputs = None if head is None else head_outputs(state, model, head)
    if outputs is not None:
        model = torchvision.models.get_model(architecture, weights=None, num_classes=outputs)
    return model, fill(model, state, weights)
