"""The GFLOPs of a sample by each method, counted with drawn weights, for the table of methods.

The harness's own probe counts, on drawn photographs and the first 200 classes of ImageNet. FLOPs
follow from shapes, so what is large is not computed: see `DrawnResults`.
"""

import importlib.metadata
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.flop_counter import flop_registry
from typing_extensions import override

from ttt_bench import IMAGENET_CLASS_SET, AdapterSpec, Backbone, Entry, UserError, load_backbone
from ttt_bench.doctor.drawn import DrawnPhotographs
from ttt_bench.engine.worker import MethodWorker, MethodWorkerSpec
from ttt_bench.registry import registry
from ttt_bench.runner.settings import resolve_config
from ttt_bench.toolkit.quiet import quiet
from ttt_bench.toolkit.seeded import seeded

CLASSES = 200
# Photographs, more than a batch of any method.
IMAGES = 256
# The columns of the table, and the backbone of each family of methods.
BACKBONES: Mapping[str, Mapping[str, str]] = {
    "ViT-B/16": {"clip": "open_clip:ViT-B-16", "classifier": "timm:vit_base_patch16_224"},
    "ResNet-50": {"clip": "open_clip:RN50", "classifier": "timm:resnet50"},
}
# Masked autoencoders are neither.
FAMILIES = ("clip", "classifier", "mae")
# With drawn weights no sample is certain, so methods that leave samples out are counted with all
# samples kept. Setups, which are not counted, are short.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "eta": {"entropy_margin": 2.0, "similarity_margin": 2.0},
    "eata": {"entropy_margin": 2.0, "similarity_margin": 2.0, "fisher_images": 64},
    "rdumb": {"entropy_margin": 2.0, "similarity_margin": 2.0},
    "sar": {"entropy_margin": 2.0},
    "deyo": {"select_margin": 2.0, "plpd": -1.0},
    "santa": {"prototype_images": 64},
    "rmt": {"prototype_images": 64, "warmup_samples": 64},
    "temperature": {"temperature": 1.0},
    # No other dual encoder is drawn.
    "rlcf": {"reward": ""},
}
LEARNED_PROMPTS = {"coop": False, "tpt-coop": False, "cocoop": True, "tpt-cocoop": True}


class DrawnResults(TorchDispatchMode):
    """Lets operations on large tensors give drawn numbers, at once, in tensors of the right shapes.

    A large result is memory that nobody fills. A small result of large tensors, and every result of
    an operation whose FLOPs are counted, is drawn, so that what follows has usual numbers.
    """

    def __init__(self, large: int = 2**18) -> None:
        """Draw numbers to fill results with.

        Args:
            large: the number of elements from which a tensor is large.
        """
        super().__init__()
        self._large = large
        self._numbers = torch.randn(large, generator=torch.Generator().manual_seed(0))

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        drawn = func._overloadpacket in flop_registry or any(map(self._is_large, given))
        if func.is_view or not drawn:
            return func(*args, **kwargs)
        returned = func._schema.returns
        if func._schema.is_mutable and not (returned and returned[0].alias_info is None):
            # What is written in place stays as it is.
            return args[0] if returned else None
        try:
            on_meta = func(*tree_map(_to_meta, args), **tree_map(_to_meta, kwargs))
        except (NotImplementedError, RuntimeError):
            return func(*args, **kwargs)
        return tree_map_only(Tensor, self._result, on_meta)

    def _is_large(self, tensor: Tensor) -> bool:
        return tensor.is_floating_point() and tensor.numel() >= self._large

    def _result(self, like: Tensor) -> Tensor:
        if not like.is_floating_point():
            return torch.zeros_like(like, device="cpu")
        result = torch.empty_like(like, device="cpu")
        if not self._is_large(like):
            result.copy_(self._numbers[: like.numel()].view(like.shape))
        return result


def _to_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    return torch.device("meta") if isinstance(value, torch.device) else value


class DrawnImageNet(DrawnPhotographs):
    """Drawn photographs of some of ImageNet's classes, for the test and for training."""

    def __init__(self) -> None:
        """Draw the entries."""
        super().__init__(f"{IMAGES},{CLASSES}", None)
        classes = IMAGENET_CLASS_SET.subset(range(CLASSES))
        self.classes = replace(classes, templates=classes.templates[:2])
        self.training: Sequence[Entry] = self.entries

    @override
    def open_training(self, index: int) -> Image.Image:
        return self.open(index)


def draw_weights(name: str, folder: Path) -> Path:
    """Return a file of drawn weights of a backbone, written unless it is there.

    Args:
        name: the backbone's name.
        folder: the folder of such files.
    """
    family, _, architecture = name.partition(":")
    path = folder / f"{family}-{architecture}.pt"
    if not path.exists():
        with quiet(), seeded(0):
            if family == "open_clip":
                model = open_clip.create_model(architecture, pretrained_text=False)
            else:
                model = timm.create_model(architecture)
        torch.save(model.state_dict(), path)
    return path


def draw_prompt(path: Path, backbone: Backbone, conditional: bool) -> None:
    """Write a drawn prompt of four tokens, as CoOp and CoCoOp save learned ones.

    Args:
        path: the file.
        backbone: the dual encoder that reads the prompt.
        conditional: whether there is CoCoOp's network that shifts the prompt.
    """
    width, dim = backbone.model.token_embedding.weight.shape[1], backbone.feature_dim
    state = {"ctx": torch.randn(4, width)}
    if conditional:
        shapes = {"linear1": (dim // 16, dim), "linear2": (width, dim // 16)}
        for layer, (rows, columns) in shapes.items():
            state[f"meta_net.{layer}.weight"] = torch.randn(rows, columns)
            state[f"meta_net.{layer}.bias"] = torch.zeros(rows)
    torch.save({"state_dict": state}, path)


@dataclass
class Counting:
    """One backbone, and what is drawn for it.

    Attributes:
        name: the backbone's name.
        folder: the folder of drawn weights and prompts.
        dataset: the drawn images.
        backbone: the backbone with drawn weights.
    """

    name: str
    folder: Path
    dataset: DrawnImageNet = field(default_factory=DrawnImageNet)

    def __post_init__(self) -> None:
        """Load the backbone."""
        self.backbone = load_backbone(self.name, "cpu", draw_weights(self.name, self.folder))
        # Nothing is computed, so all images pass at once.
        self.backbone.group = IMAGES
        # Every worker asks for the card, for which the weights are hashed.
        card = self.backbone.card()
        self.backbone.card = lambda: card

    def gflops(self, method: str) -> float | None:
        """Return the GFLOPs of a sample, None for a method that does not run on the backbone."""
        spec: AdapterSpec = registry().adapters[method].spec
        if not spec.needs <= registry().backbones.find(self.name).spec.gives:
            return None
        try:
            return self._count(spec)
        except UserError as error:
            print(f"{method} on {self.name}: {error}", file=sys.stderr)
            return None

    def _count(self, spec: AdapterSpec) -> float:
        settings = SETTINGS.get(spec.name, {})
        if spec.name in LEARNED_PROMPTS:
            path = self.folder / f"{spec.name}.pt"
            draw_prompt(path, self.backbone, LEARNED_PROMPTS[spec.name])
            settings = {**settings, "checkpoint": str(path)}
        config = resolve_config(spec, "", "", settings)
        size = 1 if spec.kind == "sample" else config["batch_size"]
        worker = MethodWorker(
            MethodWorkerSpec(
                method=spec.name,
                config=config,
                dataset=self.dataset.name,
                backbone=self.name,
                data_root=None,
                device="cpu",
                seed=0,
                batch_size=1,
                feature_cache=False,
            ),
            self.dataset,
            self.backbone,
        )
        counted = worker.count_costs([range(size)])["flops_per_sample"]
        return sum(sum(phase.values()) for phase in counted.values()) / 1e9


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide what is counted."""
    names = ("torch", "timm", "open_clip_torch", "ttt-bench")
    return {name: importlib.metadata.version(name) for name in names}


def count(path: Path, folder: Path, again: Sequence[str], methods: Sequence[str]) -> None:
    """Count what is missing in a file, and write the file after every number.

    Args:
        path: the file.
        folder: the folder of what is drawn.
        again: methods that are counted again, and no others; empty for all that are missing.
        methods: all methods.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if content.get("versions") != versions():
        content = {"versions": versions(), "classes": CLASSES, "gflops": {}}
    gflops: dict[str, dict[str, float | None]] = content["gflops"]
    for method in again:
        gflops.pop(method, None)
    specs = [registry().adapters[method].spec for method in again or methods]
    for (column, by_family), family in itertools.product(BACKBONES.items(), FAMILIES):
        missing = [
            spec.name
            for spec in specs
            if spec.family.name == family and column not in gflops.get(spec.name, {})
        ]
        counting = None
        for method in missing:
            with DrawnResults():
                if family in by_family:
                    counting = counting or Counting(by_family[family], folder)
                number = counting.gflops(method) if counting else None
            rounded = None if number is None else float(f"{number:.4g}")
            gflops.setdefault(method, {})[column] = rounded
            path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
            print(f"{method} on {column}: {rounded}", flush=True)
