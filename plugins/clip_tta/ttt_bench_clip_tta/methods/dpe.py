"""DPE: prototypes of texts and of images that evolve together along the stream.

Paper: Zhang, Stepputtis, Sycara and Xie 2024, Dual Prototype Evolving for Test-Time Generalization
    of Vision-Language Models (NeurIPS 2024, arXiv 2410.12790), section 3.
Code: zhangce01/DPE-CLIP (MIT licence).
Kind: stream. Residuals of both kinds of prototypes take one step on every sample, from zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG, entropy
from ttt_bench_clip_tta.adapter import ConfidentViewConfig, OneByOneConfig, ViewAdapter
from ttt_bench_clip_tta.cache import ClassCache, affinity
from ttt_bench_clip_tta.views import view_statistics
from ttt_bench_clip_tta.walk import Seen, one_by_one

# AdamW's; a residual whose gradient is far larger takes a step of `lr`. At zero nothing decays.
EPSILON = 1e-3
INFO_NCE_TEMPERATURE = 0.01


class DPEConfig(ConfidentViewConfig, OneByOneConfig):
    """The release's values for ImageNet."""

    alpha: float = Field(6.0, ge=0, description="weight of the image prototypes")
    beta: float = Field(5.0, gt=0, description="sharpness of the image prototypes")
    lr: float = Field(6e-4, gt=0, description="learning rate of both residuals")
    align: float = Field(
        0.5, ge=0, description="weight of the loss that aligns both kinds of prototypes"
    )
    capacity: int = Field(3, ge=1, description="features of each class in the cache")
    update_below: float = Field(
        0.1, description="entropy, in units of log2 C, below which the texts evolve"
    )
    predict_from: Literal["image", "views"] = Field(
        "image", description="whether the plain image is classified or the confident views"
    )


@dataclass(frozen=True)
class Prototypes:
    """The classifier of one sample.

    Attributes:
        text: the unit text prototype of each class.
        image: the unit image prototype of each class that is in the cache.
        cached: which classes are in the cache.
    """

    text: Float[Tensor, "classes dim"]
    image: Float[Tensor, "classes dim"]
    cached: Bool[Tensor, " classes"]


class DPE(ViewAdapter[DPEConfig]):
    """`dpe`: CLIP's logits by evolving texts, raised by evolving image prototypes.

    Attributes:
        cache: the most certain features of each class.
        means: the mean of each class's features in the cache.
        texts: the evolving text of each class, the mean of those after each confident sample.
        updates: the number of confident samples.
        residuals: of the text and the image prototypes, zero before each sample.
    """

    Config = DPEConfig

    @override
    def begin(self) -> None:
        """Begin a stream with the class texts and an empty cache."""
        classes, size = self.text.shape
        self.cache = ClassCache(classes, self.config.capacity, self.text.device, feature=size)
        self.means = torch.zeros_like(self.text)
        self.texts, self.updates = self.text.clone(), 0
        self.residuals = nn.Parameter(torch.zeros(2, classes, size, device=self.text.device))

    @override
    def samples_kept(self) -> int:
        return self.config.capacity * len(self.task.classes)

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        views = self.encode(samples, rngs)
        plain = self.logits(views[:, :1])[:, 0]
        return [
            Prediction(self.predict(own), unadapted_logits=logits)
            for own, logits in zip(views, plain, strict=True)
        ]

    def predict(self, views: Float[Tensor, "views dim"]) -> Float[Tensor, " classes"]:
        """Take a sample into the cache, evolve its prototypes, and return its logits under them.

        Args:
            views: unit features of the views.
        """
        text = F.normalize(self.texts, dim=1)
        seen = self.see(views, text)
        if self.cache.add_certain(seen.label, seen.entropy, feature=seen.feature):
            self.means[seen.label] = self.mean(seen.label)
        prototypes = self.evolve(seen.feature)
        if self.config.predict_from == "views":
            feature = self.see(views, prototypes.text).feature
        else:
            feature = views[0]
        logits = self.classify(feature, prototypes)
        if entropy(logits) < self.config.update_below * math.log2(len(logits)):
            self.updates += 1
            kept = self.updates / (self.updates + 1)
            self.texts = kept * self.texts + (1 - kept) * prototypes.text
        return logits

    def see(self, views: Float[Tensor, "views dim"], text: Float[Tensor, "classes dim"]) -> Seen:
        """Return what the confident views of a sample say together, by unit text prototypes."""
        logits = self.scale * views @ text.T
        return next(one_by_one(view_statistics(views[None], logits[None], self.config.selection)))

    def mean(self, label: int) -> Float[Tensor, " dim"]:
        """Return the mean of a class's features in the cache."""
        return self.cache.features[:, label].sum(dim=0) / self.cache.filled[:, label].sum()

    def evolve(self, feature: Float[Tensor, " dim"]) -> Prototypes:
        """Return the prototypes of a sample after a step of AdamW on their residuals, from zero.

        Args:
            feature: the feature of the sample.
        """
        config = self.config
        self.residuals.zero_()
        self.residuals.grad = None
        optimizer = torch.optim.AdamW([self.residuals], lr=config.lr, eps=EPSILON)
        with torch.enable_grad():
            prototypes = self.prototypes()
            loss = entropy(self.classify(feature, prototypes))
            if config.align:
                loss = loss + config.align * misalignment(prototypes)
            loss.backward()
        optimizer.step()
        return self.prototypes()

    def prototypes(self) -> Prototypes:
        """Return the unit sums of texts and images with their residuals."""
        bases = torch.stack([self.texts, self.means])  # (2, C, D)
        text, image = F.normalize(bases + self.residuals, dim=2)
        return Prototypes(text, image, self.cache.filled[0])

    def classify(
        self, feature: Float[Tensor, " dim"], prototypes: Prototypes
    ) -> Float[Tensor, " classes"]:
        """Return the logits of a feature by both kinds of prototypes."""
        raised = affinity(prototypes.image @ feature, self.config.beta) * prototypes.cached
        return self.scale * (prototypes.text @ feature) + self.config.alpha * raised


def misalignment(prototypes: Prototypes) -> Float[Tensor, ""]:
    """Return the InfoNCE loss of the cached classes' prototypes, from images to texts.

    Each image prototype has to find the text of its class among those of all cached classes.
    """
    # Twice (C, D) -> (cached, D)
    text, image = (part[prototypes.cached] for part in (prototypes.text, prototypes.image))
    scores = image @ text.T / INFO_NCE_TEMPERATURE  # (cached, cached)
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
