"""TDA: a training-free dynamic adapter with a positive and a negative cache.

Paper: Karmanov, Guan, Lu, El Saddik and Xing 2024, Efficient Test-Time Adaptation of
    Vision-Language Models (CVPR 2024, arXiv 2403.18293), section 3.
Code: kdiAAA/TDA (MIT licence).
Kind: stream. Nothing is trained; a few confident features of every class are kept.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG
from ttt_bench_clip_tta.adapter import ConfidentViewConfig, OneByOneConfig, ViewAdapter
from ttt_bench_clip_tta.cache import ClassCache
from ttt_bench_clip_tta.views import view_statistics
from ttt_bench_clip_tta.walk import Seen, one_by_one


class TDAConfig(ConfidentViewConfig, OneByOneConfig):
    """The paper's values for ImageNet (section 4.1); entropies are in units of log2 C, as there."""

    alpha: float = Field(2.0, ge=0, description="weight of the positive cache")
    beta: float = Field(5.0, gt=0, description="sharpness of the positive cache")
    capacity: int = Field(3, ge=1, description="items of each class in the positive cache")
    negative_alpha: float = Field(0.117, ge=0, description="weight of the negative cache")
    negative_beta: float = Field(1.0, gt=0, description="sharpness of the negative cache")
    negative_capacity: int = Field(2, ge=1, description="items of each class in the negative cache")
    entropy_above: float = Field(0.2, description="entropy above which an item may be negative")
    entropy_below: float = Field(0.5, description="entropy below which an item may be negative")
    probability_above: float = Field(
        0.03, ge=0, le=1, description="probability above which a negative item lowers a class"
    )


class TDA(ViewAdapter[TDAConfig]):
    """`tda`: CLIP's logits, raised by confident features and lowered by uncertain ones.

    Attributes:
        positive: the most certain features of each class.
        negative: uncertain features, each with 1 for the classes that it lowers.
    """

    Config = TDAConfig

    @override
    def begin(self) -> None:
        """Begin a stream with empty caches."""
        classes, size = self.text.shape
        device, capacity = self.text.device, self.config.negative_capacity
        self.positive = ClassCache(classes, self.config.capacity, device, feature=size)
        self.negative = ClassCache(classes, capacity, device, feature=size, lowered=classes)

    @override
    def samples_kept(self) -> int:
        return (self.config.capacity + self.config.negative_capacity) * len(self.task.classes)

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        views = self.encode(samples, rngs)
        statistics = view_statistics(views, self.logits(views), self.config.selection)
        return [
            Prediction(self.predict(seen), unadapted_logits=seen.logits)
            for seen in one_by_one(statistics)
        ]

    def predict(self, seen: Seen) -> Float[Tensor, " classes"]:
        """Take a sample into the caches, and return its logits with them."""
        config = self.config
        self.positive.add_certain(seen.label, seen.entropy, feature=seen.feature)
        if self.is_uncertain(seen):
            self.add_negative(seen)
        raised = self.positive.affinities(seen.feature, config.beta).sum(dim=0)  # (L, C) -> (C)
        lowered = self.lowered_by_negative(seen)
        return seen.logits + config.alpha * raised - config.negative_alpha * lowered

    def is_uncertain(self, seen: Seen) -> bool:
        """Say whether a sample's entropy is that of a negative item."""
        bits = math.log2(len(seen.logits))
        return self.config.entropy_above * bits < seen.entropy < self.config.entropy_below * bits

    def add_negative(self, seen: Seen) -> None:
        """Keep a sample in the negative cache if it is among the most certain of its class."""
        lowered = self.likely_classes(seen)
        self.negative.add_certain(seen.label, seen.entropy, feature=seen.feature, lowered=lowered)

    def likely_classes(self, seen: Seen) -> Float[Tensor, " classes"]:
        """Return 1 for each class that a sample may be, 0 for the others."""
        likely = (seen.probabilities > self.config.probability_above) & (seen.probabilities < 1)
        return likely.float()

    def lowered_by_negative(self, seen: Seen) -> Float[Tensor, " classes"]:
        """Return the sum of the affinities to the negative items that lower each class."""
        weights = self.negative.affinities(seen.feature, self.config.negative_beta)  # (L, C)
        lowered = self.negative.values["lowered"][: len(weights)]
        return weights.flatten() @ lowered.flatten(0, 1)  # (L*C) @ (L*C, C) -> (C)
