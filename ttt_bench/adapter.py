"""All that the author of a method reads: Adapter, Sample, Stream, Task, Prediction."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ttt_bench import cost
from ttt_bench.backbones.base import Backbone, Classifier, head_outputs


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One test image. There is no label here, nor anything that leads to one.

    Attributes:
        id: opaque; the same sample has the same id in every run.
        image: RGB, as decoded, before any resize.
    """

    id: str
    image: Image.Image


@dataclass(frozen=True, slots=True)
class Stream:
    """The randomness of one sample: a generator for each purpose the method names.

    A draw depends on the run's seed, the sample and the purpose, and on nothing else: not on
    the order of samples, their batch, the worker or the device (draw on the CPU, then move).
    """

    seed: int
    sample_id: str

    def _integer(self, purpose: str) -> int:
        text = f"{self.seed}\0{self.sample_id}\0{purpose}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")

    def torch(self, purpose: str) -> torch.Generator:
        """A fresh CPU generator; the same purpose gives the same numbers again."""
        return torch.Generator().manual_seed(self._integer(purpose))

    def numpy(self, purpose: str) -> np.random.Generator:
        """The same for numpy; its numbers are not those of `torch(purpose)`."""
        return np.random.default_rng(self._integer(purpose))


@dataclass(frozen=True)
class Prediction:
    """What a method says of one sample.

    Attributes:
        logits: the reported scores `[classes]`.
        steps: for a method that iterates, the scores after every step `[steps classes]`;
            the last row is the reported one.
        unadapted: for a method that adapts, what the model it starts from says before the first
            step `[classes]`; tells what the adaptation changed, and is never reported.
    """

    logits: Float[Tensor, " classes"]
    steps: Float[Tensor, "steps classes"] | None = None
    unadapted: Float[Tensor, " classes"] | None = None


class Task:
    """A dataset met by a backbone under the protocol: everything a method shares with the others.

    Attributes:
        backbone: the frozen model; leave its weights alone or put them back.
        class_names: the classes, in the order of the logits.
        prompt: the dataset's single template, "a photo of a {}."
        templates: the dataset's list of templates for prompt ensembling.
        augmix: whether the dataset asks for AugMix views (the fine-grained ones do).
        imagenet_indices: which of ImageNet-1k's 1000 classes these are, in the order of the logits;
            None where they are not ImageNet's.
    """

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        prompt: str,
        templates: Sequence[str],
        augmix: bool = False,
        imagenet_indices: Sequence[int] | None = None,
    ) -> None:
        self.backbone = backbone
        self.augmix = augmix
        self.class_names = tuple(class_names)
        self.prompt = prompt
        self.templates = tuple(templates)
        self.imagenet_indices = None if imagenet_indices is None else tuple(imagenet_indices)

    @property
    def device(self) -> torch.device:
        """Where the backbone is and where a method should compute."""
        return self.backbone.device

    def pixels(
        self, samples: Sequence[Sample], size: int | None = None
    ) -> Float[Tensor, "batch 3 side side"]:
        """The images through the backbone's own transform, at its own side or at `size` pixels."""
        images = [self.backbone.preprocess(sample.image, size) for sample in samples]
        return torch.stack(images).to(self.device)

    @torch.no_grad()
    def encode_image(self, samples: Sequence[Sample]) -> Float[Tensor, "batch dim"]:
        """The frozen backbone's raw (not normalized) image features; its cost is the teacher's.

        Those of a backbone that the method has changed come from `task.backbone.encode_image`.
        """
        with cost.phase("teacher"):
            return self.in_fixed_groups(self.backbone.encode_image, self.pixels(samples))

    def in_fixed_groups(
        self,
        compute: Callable[[Float[Tensor, "group 3 side side"]], Float[Tensor, "group values"]],
        pixels: Float[Tensor, "batch 3 side side"],
    ) -> Float[Tensor, "batch values"]:
        """What `compute` makes of images, in batches of one size, so that none feels the others.

        Kernels, and with them the rounding, change with the size of a batch.
        """
        return self.backbone.in_fixed_groups(compute, pixels)

    @torch.no_grad()
    def encode_views(self, views: Float[Tensor, "views 3 side side"]) -> Float[Tensor, "views dim"]:
        """Raw features of one sample's views, all in one batch; the cost is the teacher's."""
        with cost.phase("teacher"):
            return self.backbone.encode_image(views)

    @torch.no_grad()
    def classifier(self, templates: Sequence[str]) -> Classifier:
        """The backbone's classification rule with an ensemble of templates.

        A rule maps features `[... dim]` to logits `[... classes]`: scaled cosine to the class
        text features for a dual encoder, the model's own head for a classifier.

        Raises:
            UserError: the backbone has no rule for these classes.
        """
        return self.backbone.classifier(self.class_names, templates, self.imagenet_indices)

    @cached_property
    def rule(self) -> Classifier:
        """The backbone's own rule with the dataset's single prompt."""
        return self.classifier([self.prompt])

    def logits(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch classes"]:
        """What `rule` says of features."""
        return self.rule(features)

    def head_outputs(self, outputs: int) -> list[int]:
        """Which outputs of the method's own trained head are this task's classes, in their order.

        Raises:
            UserError: the head has not one output for each class, nor ImageNet-1k's 1000.
        """
        return head_outputs("the method's", outputs, len(self.class_names), self.imagenet_indices)


class AdapterConfig(BaseModel):
    """Base of every method's configuration: the paper's values as defaults, frozen, no extras."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ConfigT = TypeVar("ConfigT", bound=AdapterConfig)


class Adapter(ABC, Generic[ConfigT]):
    """A method.

    What `adapt` returns for a sample may depend on the sample, its stream and what `setup` made,
    and on nothing else: not on its neighbours, and not on what ran before. Where rounding could
    tell how many samples came together, compute each of them in shapes that do not depend on it.

    Attributes:
        uses_rule: whether it classifies by the backbone's own rule, which is then made, or refused,
            before `setup`; a method with a head of its own says False.
    """

    Config: ClassVar[type[Any]] = AdapterConfig
    uses_rule: ClassVar[bool] = True

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    def setup(self, task: Task) -> None:
        """Once per task, before any sample: text features, templates of the state."""
        self.task = task

    @abstractmethod
    def adapt(self, samples: Sequence[Sample], streams: Sequence[Stream]) -> Sequence[Prediction]:
        """Predict independent samples, at most `--batch-size` of them, one prediction each."""
