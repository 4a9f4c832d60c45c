"""Dual encoders of open_clip: any architecture and pretrained tag, and the embedded tiny-clip."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench.api.backbone import (
    BatchNormClassifier,
    DualEncoder,
    PatchEncoder,
    TrainableClassifier,
    Transform,
)
from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.errors import UserError, unknown
from ttt_bench.api.working_copy import WorkingCopy
from ttt_bench.backbones import tiny_clip
from ttt_bench.backbones.model_sources import is_source, load_from_source
from ttt_bench.backbones.patches import Resized
from ttt_bench.backbones.published_weights import load_published
from ttt_bench.backbones.weights_file import load_weights
from ttt_bench.toolkit.quiet import quiet

CONFIG_FILE = "open_clip_config.json"


class OpenClipBackbone(DualEncoder, PatchEncoder, TrainableClassifier):
    """`open_clip:ARCHITECTURE/TAG`, such as `open_clip:ViT-B-16/openai`.

    Weights are downloaded by open_clip, which checks their published hash, and kept in float32.
    With a file of weights the tag is optional; it then decides the activation and the transform.

    `open_clip:hf-hub:ORGANIZATION/NAME` is a repository of the hub, `open_clip:local-dir:FOLDER` a
    folder with the files of one: `open_clip_config.json`, weights, and a tokenizer's files if the
    configuration names one.
    """

    takes_weights = True

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        if is_source(argument):
            model, tokenizer = load_from_source(
                f"open_clip:{argument}",
                argument,
                CONFIG_FILE,
                weights,
                partial(_build_from, argument),
            )
            self._matched = {}
            self._adopt(model, tokenizer, device)
            return
        architecture, _, tag = argument.partition("/")
        if architecture not in open_clip.list_models():
            raise unknown("open_clip architecture", architecture, open_clip.list_models())
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        if tag not in tags and (tag or weights is None):
            raise unknown(f"pretrained tag of {architecture}", tag, tags)
        published = open_clip.get_pretrained_cfg(architecture, tag)
        # OpenAI's weights were trained with QuickGELU; open_clip only warns when it is missing.
        quick = published.get("quick_gelu", False)
        build = partial(_build, architecture, tag if weights is None else "", published)
        # Some architectures have a tokenizer on the hub, needed beside a file of weights as well.
        hub_id = (open_clip.get_model_config(architecture) or {})["text_cfg"].get(
            "hf_tokenizer_name"
        )
        if weights is None:
            hub_id, url = hub_id or published.get("hf_hub"), published.get("url")
            model, tokenizer = load_published(f"open_clip:{argument}", hub_id, url, build)
        elif hub_id:
            model, tokenizer = load_published(f"open_clip:{argument}", hub_id, None, build)
        else:
            with quiet():
                model, tokenizer = build()
        if tag and quick != any(isinstance(module, QuickGELU) for module in model.modules()):
            raise UserError(
                f"open_clip:{argument}: the model's activation is not that of its weights; take "
                "another tag"
            )
        self._matched = load_weights(model, weights) if weights else {}
        self._adopt(model, tokenizer, device)

    def _adopt(self, model: nn.Module, tokenizer: Any, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self._clip = cast(Any, self.model)
        self.tokenizer = tokenizer
        self.device = device
        self.transform = PreprocessCfg(**self._clip.visual.preprocess_cfg)
        # CLIP's ResNets have a number here, its transformers a pair.
        size = self.transform.size
        self.image_size = size if isinstance(size, int) else size[0]
        if hasattr(self._clip.visual, "trunk"):
            self._trunk = Resized(self._clip.visual.trunk, self.image_size, "its image tower")
        blank = torch.zeros(1, 3, self.image_size, self.image_size, device=device)
        with torch.no_grad():
            self.feature_dim = self.encode_image(blank).shape[1]

    @override
    def make_transform(self, size: int) -> Transform:
        resized = PreprocessCfg(**{**asdict(self.transform), "size": (size, size)})
        return cast(Transform, image_transform_v2(resized, is_train=False))

    @override
    def encode_image(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch dim"]:
        return self._clip.encode_image(pixels)

    @override
    def encode_patches(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch rows columns dim"]:
        visual, side = self._clip.visual, pixels.shape[-1]
        if hasattr(visual, "trunk"):
            return self._trunk.patches(pixels)
        if side != self.image_size or not hasattr(visual, "ln_post"):
            raise UserError(
                f"this image tower gives patch features of images of {self.image_size} pixels if "
                f"it is a transformer, not of {side} pixels; take another backbone"
            )
        last = visual.forward_intermediates(
            pixels, indices=1, normalize_intermediates=True, intermediates_only=True
        )
        return last["image_intermediates"][0].permute(0, 2, 3, 1)  # (b, h, w, d)

    @property
    @override
    def logit_scale(self) -> Float[Tensor, ""]:
        return self._clip.logit_scale.exp()

    @override
    def encode_text(self, prompts: Sequence[str]) -> Float[Tensor, "prompts dim"]:
        return self._clip.encode_text(self.tokenizer(list(prompts)).to(self.device))

    @override
    def working_copy(self, classes: ClassSet, templates: Sequence[str]) -> WorkingCopy:
        """Return a copy of the image tower, which classifies by the text features as they are."""
        text = self.class_weights(classes, templates)
        classify = partial(_scaled_cosine, self.logit_scale.detach(), text)
        return WorkingCopy(copy.deepcopy(self._clip.visual), _encode, classify)

    @override
    def class_weights(
        self, classes: ClassSet, templates: Sequence[str]
    ) -> Float[Tensor, "classes dim"]:
        return self.class_features(classes.names, templates)

    @override
    def card(self) -> dict[str, Any]:
        quick = any(isinstance(module, QuickGELU) for module in self.model.modules())
        return {
            "weights": self.weights_hash(),
            **self._matched,
            "dtype": str(next(self.model.parameters()).dtype).removeprefix("torch."),
            "activation": "QuickGELU" if quick else "GELU",
            "transform": {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in asdict(self.transform).items()
            },
        }


def _encode(
    tower: nn.Module, pixels: Float[Tensor, "batch 3 side side"]
) -> Float[Tensor, "batch dim"]:
    output = tower(pixels)
    # CoCa's tower gives the tokens beside the feature.
    return output[0] if isinstance(output, tuple) else output


def _scaled_cosine(
    scale: Float[Tensor, ""],
    text: Float[Tensor, "classes dim"],
    tower: nn.Module,
    features: Float[Tensor, "batch dim"],
) -> Float[Tensor, "batch classes"]:
    return scale * F.normalize(features.float(), dim=-1) @ text.T


def _build(architecture: str, tag: str, published: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """Build a model and its tokenizer by open_clip.

    Args:
        architecture: the model's name.
        tag: names the published weights to load, "" to load none.
        published: the configuration that was published with weights, for the activation and the
            transform.
    """
    quick = published.get("quick_gelu", False)
    if tag:
        model = open_clip.create_model(
            architecture, pretrained=tag, force_quick_gelu=quick, require_pretrained=True
        )
    else:
        model = open_clip.create_model(
            architecture,
            force_quick_gelu=quick,
            force_preprocess_cfg=dict(published),
            pretrained_text=False,
        )
    return model, open_clip.get_tokenizer(architecture)


def _build_from(source: str) -> tuple[nn.Module, Any]:
    """Build a model and its tokenizer from a repository of the hub or from a folder."""
    model = open_clip.create_model(source, require_pretrained=True)
    return model, open_clip.get_tokenizer(source)


class TinyClip(OpenClipBackbone, BatchNormClassifier):
    """`tiny-clip`: the embedded dual encoder, trained on CIFAR-10's training images.

    Its folder is read by `open_clip.create_model("local-dir:...")`, after the import of
    `ttt_bench.backbones.tiny_clip.tower` has registered the image tower with timm.
    """

    takes_weights = False

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        from ttt_bench.backbones.tiny_clip import tower  # noqa: F401  (registers with timm)

        folder = f"local-dir:{Path(tiny_clip.__file__).parent}"
        with quiet():
            model = open_clip.create_model(folder, require_pretrained=True)
            self._matched = {}
            self._adopt(model, _tokenizer(folder), device)


@cache
def _tokenizer(name: str) -> Any:
    """Return the tokenizer of a model; its vocabulary takes 0.2 s to read."""
    return open_clip.get_tokenizer(name)
