"""Loading the backbone that a name stands for, and choosing device and default backbone."""

from importlib import import_module
from pathlib import Path

import torch

from ttt_bench.api import backbone as capabilities
from ttt_bench.api.backbone import Backbone
from ttt_bench.api.errors import UserError
from ttt_bench.api.specs import CLIP_FAMILY, BackboneFamily
from ttt_bench.registry import registry


def backbone_type(name: str, weights: Path | None = None) -> type[Backbone]:
    """Return the class of the backbone that a name stands for.

    Raises:
        UserError: there is none of that name, it is not what its spec says, or it takes no file of
            weights and gets one.
    """
    spec = registry().backbones.find(name).spec
    kind = spec.load()
    for capability in sorted(spec.gives):
        if not issubclass(kind, capability_type(capability)):
            raise UserError(f"{spec.name} says it gives {capability}, which its class is not")
    if weights is not None and not kind.takes_weights:
        raise UserError(f"{name} brings its own weights; leave --weights out")
    return kind


def capability_type(name: str) -> type[Backbone]:
    """Return the class of a capability: one of `ttt_bench`'s, or a plugin's "package.module:Name".

    Raises:
        UserError: there is no such class.
    """
    module, colon, attribute = name.partition(":")
    try:
        kind = getattr(import_module(module), attribute) if colon else getattr(capabilities, name)
    except (ImportError, AttributeError):
        kind = None
    if not (isinstance(kind, type) and issubclass(kind, Backbone)):
        raise UserError(
            f"{name!r} is no capability; name a Backbone subclass, such as DualEncoder or "
            "package.module:Name"
        )
    return kind


def load_backbone(name: str, device: str = "auto", weights: Path | None = None) -> Backbone:
    """Load a backbone onto a device, with its own weights or those of a file.

    Raises:
        UserError: there is none of that name, or its weights are missing or do not fit.
    """
    kind = backbone_type(name, weights)
    return kind(name.partition(":")[2], torch.device(choose_device(device)), weights)


def default_backbone(
    dataset: str, family: BackboneFamily = CLIP_FAMILY, needs: frozenset[str] = frozenset()
) -> str:
    """Return the name of the backbone on which a family of methods runs a dataset by default.

    Args:
        dataset: the dataset's name.
        family: the family of methods.
        needs: names of the capability classes that the backbone must be. A dataset's own backbone
            for the family is passed over where it is not all of them.

    Raises:
        UserError: there is no such dataset, or no backbone of the name that it gives.
    """
    plugins = registry()
    spec = plugins.datasets.find(dataset).spec
    own = spec.backbones.get(family.name)
    if own and needs <= plugins.backbones.find(own).spec.gives:
        return own
    return family.by_dataset.get(spec.name, family.default)


def choose_device(name: str) -> str:
    """Return the device's name; `auto` is the first of cuda, mps and cpu that is there.

    Raises:
        UserError: the device is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, is_available in available.items() if is_available)
    if not available.get(name, True):
        raise UserError(f"--device {name}: PyTorch finds no such device here; take --device cpu")
    return name
