"""Classifiers of timm: the pooled feature, and the model's own head as the classifier."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import timm
import torch
from jaxtyping import Float, Int
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench.api.backbone import (
    BatchNormClassifier,
    Classifier,
    FeatureClassifier,
    PatchEncoder,
    TrainableClassifier,
    Transform,
)
from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.errors import UserError, unknown
from ttt_bench.api.specs import BackboneSpec
from ttt_bench.api.working_copy import WorkingCopy
from ttt_bench.backbones import tiny_resnet
from ttt_bench.backbones.model_sources import is_source, load_from_source, read_config
from ttt_bench.backbones.patches import Resized
from ttt_bench.backbones.published_weights import load_published
from ttt_bench.backbones.weights_file import fill, head_outputs, read_state_dict

CONFIG_FILE = "config.json"
ACTIVATIONS = tuple(
    getattr(nn, name)
    for name in ("ELU", "GELU", "Hardswish", "LeakyReLU", "Mish", "PReLU", "ReLU", "ReLU6", "SiLU")
)


class TimmBackbone(Classifier, PatchEncoder, TrainableClassifier):
    """`timm:NAME` or `timm:NAME.TAG`, such as `timm:resnet50.a1_in1k`.

    `timm:hf-hub:ORGANIZATION/NAME[@REVISION]` is a repository of the hub, and
    `timm:local-dir:FOLDER` a folder with the files of one: `config.json` and weights.

    The image feature is the model's pooled feature before its classifier. Weights are downloaded by
    timm and kept in float32. A file of weights may have a head of any number of classes; its
    outputs are taken to be in the order of the dataset's classes.
    """

    takes_weights = True
    # What `fill` returned, for the card.
    _matched: Mapping[str, str] = MappingProxyType({})

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self.name = f"timm:{argument}"
        if is_source(argument):
            model = load_from_source(
                self.name,
                argument,
                CONFIG_FILE,
                weights,
                lambda: timm.create_model(argument, pretrained=True),
            )
            self._adopt(model, device)
            return
        _check_name(argument, weights is not None)
        if weights is None:
            published = get_pretrained_cfg(argument)
            model = load_published(
                self.name,
                published.hf_hub_id if published else None,
                str(published.url) if published else None,
                lambda: timm.create_model(argument, pretrained=True),
            )
        else:
            model, self._matched = _build_for(argument, weights)
        self._adopt(model, device)

    def _adopt(self, model: nn.Module, device: torch.device) -> None:
        """Take a built model over, and measure it; a subclass has set `name` before."""
        self.model = model.to(device).eval().requires_grad_(False)
        self._timm = cast(Any, self.model)
        self.device = device
        self.transform = resolve_model_data_config(self.model)
        _, height, self.image_size = self.transform["input_size"]
        if height != self.image_size:
            raise UserError(f"{self.name}: its images are not square; take another model")
        self._resized = Resized(self.model, self.image_size, self.name)
        self._measure()

    @torch.no_grad()
    def _measure(self) -> None:
        """Measure the size of a feature, and check that the head on it gives the model's logits."""
        noise = torch.rand(
            1, 3, self.image_size, self.image_size, generator=torch.Generator().manual_seed(0)
        ).to(self.device)
        feature = self.encode_image(noise)
        self.feature_dim = feature.shape[1]
        self.num_classes = int(self._timm.num_classes)
        if self.num_classes == 0:
            return
        try:
            fits = torch.allclose(self.head(feature), self.model(noise), atol=1e-4)
        # A classifier of another kind can refuse the feature in any way.
        except Exception:
            fits = False
        if not fits:
            raise UserError(
                f"{self.name}: its logits are not its classifier on its pooled feature, so it "
                "cannot classify features; take another model"
            )

    @override
    def make_transform(self, size: int) -> Transform:
        resized = {**self.transform, "input_size": (3, size, size)}
        return cast(Transform, create_transform(**resized, is_training=False))

    @override
    def encode_image(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch dim"]:
        return _encode(self.model, pixels)

    @override
    def encode_patches(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        return self._resized.patches(pixels)

    @override
    def head(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch outputs"]:
        # Heads with a normalization in them take exactly one leading dimension.
        flat = features.reshape(-1, features.shape[-1])  # (*batch, d) -> (n, d)
        outputs = _head(self.model, flat)
        return outputs.reshape(*features.shape[:-1], -1)  # (*batch, outputs)

    @override
    def working_copy(self, classes: ClassSet, templates: Sequence[str]) -> WorkingCopy:
        self._require_head()
        columns = torch.tensor(self._columns(classes), device=self.device)
        return WorkingCopy(copy.deepcopy(self.model), _encode, partial(_classify, columns))

    @override
    def class_weights(
        self, classes: ClassSet, templates: Sequence[str]
    ) -> Float[Tensor, "classes dim"]:
        self._require_head()
        layer = self._timm.get_classifier()
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            raise UserError(f"{self.name}: its head is no linear layer; take another model")
        weights = layer.weight.detach().flatten(1)  # (outputs, d[, 1, 1]) -> (outputs, d)
        return weights[self._columns(classes)]

    def _columns(self, classes: ClassSet) -> list[int]:
        return classes.head_outputs("the backbone's", self.num_classes)

    def _require_head(self) -> None:
        if self.num_classes == 0:
            raise UserError(
                f"{self.name}: has no head to classify with; take a model that has one, or a "
                "method that brings its own"
            )

    @override
    def build_classifier(self, classes: ClassSet, templates: Sequence[str]) -> FeatureClassifier:
        self._require_head()
        return super().build_classifier(classes, templates)

    @override
    def card(self) -> dict[str, Any]:
        return {
            "weights": self.weights_hash(),
            **self._matched,
            "dtype": str(next(self.model.parameters()).dtype).removeprefix("torch."),
            "activation": _activation(self.model),
            "transform": {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in self.transform.items()
            },
        }


class TimmBatchNormBackbone(TimmBackbone, BatchNormClassifier):
    """A model of timm with BatchNorm2d layers."""


class TinyResnet(TimmBatchNormBackbone):
    """`tiny-resnet`: the embedded classifier with BatchNorm, trained on CIFAR-10's training images.

    The import of `ttt_bench.backbones.tiny_resnet.network` registers its network with timm.
    """

    takes_weights = False

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        from ttt_bench.backbones.tiny_resnet.network import NETWORK_NAME

        self.name = "tiny-resnet"
        model = timm.create_model(NETWORK_NAME)
        fill(model, read_state_dict(tiny_resnet.WEIGHTS), tiny_resnet.WEIGHTS)
        self._adopt(model, device)


def spec_of_model(spec: BackboneSpec, argument: str) -> BackboneSpec:
    """Return the spec of `timm:ARGUMENT`: a model with BatchNorm2d layers is one more capability.

    Args:
        spec: the spec of all models.
        argument: the model's name, perhaps with a tag.
    """
    architecture = argument.partition(".")[0]
    if is_source(argument):
        config, _ = read_config(argument, CONFIG_FILE)
        architecture = str((config or {}).get("architecture", ""))
    try:
        found = _has_batch_norm(architecture)
    # Loading the model says what is wrong with it.
    except Exception:
        found = False
    if not found:
        return spec
    code = f"{__name__}:{TimmBatchNormBackbone.__name__}"
    return replace(spec, code=code, gives=spec.gives | {BatchNormClassifier.__name__})


@cache
def _has_batch_norm(architecture: str) -> bool:
    """Say whether a model has BatchNorm2d layers, without memory for its weights."""
    if architecture not in timm.list_models():
        return False
    with torch.device("meta"):
        model = timm.create_model(architecture)
    return any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def _encode(
    model: nn.Module, pixels: Float[Tensor, "batch 3 side side"]
) -> Float[Tensor, "batch dim"]:
    network = cast(Any, model)
    return network.forward_head(network.forward_features(pixels), pre_logits=True)


def _head(model: nn.Module, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch outputs"]:
    layer = cast(Any, model).get_classifier()
    outputs = layer(features[..., None, None] if isinstance(layer, nn.Conv2d) else features)
    return outputs.flatten(1)  # (b, outputs[, 1, 1]) -> (b, outputs)


def _classify(
    columns: Int[Tensor, " classes"], model: nn.Module, features: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch classes"]:
    return _head(model, features)[:, columns]


def _build_for(name: str, weights: Path) -> tuple[nn.Module, dict[str, str]]:
    """Build a model with the head that a file of weights has, and fill it.

    Returns:
        The model, and what `fill` adds to the protocol card.
    """
    state, model = read_state_dict(weights), timm.create_model(name)
    head = cast(Any, model).pretrained_cfg.get("classifier")
    outputs = head_outputs(state, model, head) if isinstance(head, str) else None
    if outputs not in (None, cast(Any, model).num_classes):
        model = timm.create_model(name, num_classes=outputs)
    return model, fill(model, state, weights)


def _check_name(name: str, has_file: bool) -> None:
    """Refuse a name that timm does not know, or has no weights for where there is no file."""
    architecture, _, tag = name.partition(".")
    if architecture not in timm.list_models():
        raise unknown("timm model", architecture, timm.list_models())
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise unknown(f"pretrained tag of timm:{architecture}", tag, tags)
    if not tags and not has_file:
        raise UserError(f"timm:{name}: timm has no weights for it; give a file with --weights")


def _activation(model: nn.Module) -> str:
    """Return the kinds of activation among the modules; plain functions are not seen."""
    kinds = {type(module).__name__ for module in model.modules() if _is_activation(module)}
    return ", ".join(sorted(kinds)) or "unknown"


def _is_activation(module: nn.Module) -> bool:
    defined_in = type(module).__module__
    return isinstance(module, ACTIVATIONS) or defined_in.startswith("timm.layers.activations")
