"""BoostAdapter: TDA whose positive cache also holds a sample's own confident views.

Paper: Zhang, Wang, Guo, Dai, Chen and Xia 2024, BoostAdapter: Improving Vision-Language Test-Time
    Adaptation via Regional Bootstrapping (NeurIPS 2024, arXiv 2410.15430), section 3.
Code: taolinzhang/BoostAdapter (MIT licence).
Kind: stream. Nothing is trained; the views of a sample are dropped after its prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG, entropy
from ttt_bench_clip_tta.cache import ClassCache, affinity
from ttt_bench_clip_tta.methods.tda import TDA, TDAConfig
from ttt_bench_clip_tta.views import take_views, view_statistics
from ttt_bench_clip_tta.walk import Seen, one_by_one


class BoostAdapterConfig(TDAConfig):
    """TDA's values, and those of the release for ImageNet-A."""

    delta: int = Field(3, ge=0, description="places of each class for the sample's own views")
    seen_as: Literal["views", "image"] = Field(
        "views",
        description="whether the caches see the mean of the confident views or the plain image",
    )


@dataclass(frozen=True)
class Boosters:
    """The confident views of a sample, each an item for the positive cache.

    Attributes:
        features: unit features, those of the lowest entropy first.
        entropies: the entropies of their predictions, in nats.
        labels: their predicted classes.
    """

    features: Float[Tensor, "boosters dim"]
    entropies: Float[Tensor, " boosters"]
    labels: Int[Tensor, " boosters"]


class BoostAdapter(TDA):
    """`boostadapter`: TDA with boosters, and a negative cache that keeps the newest items."""

    Config = BoostAdapterConfig
    config: BoostAdapterConfig

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        views = self.encode(samples, rngs)
        return self.predict_batch(views, self.logits(views))

    def predict_batch(
        self,
        views: Float[Tensor, "batch views dim"],
        logits: Float[Tensor, "batch views classes"],
    ) -> list[Prediction]:
        """Predict the samples of a batch one by one.

        Args:
            views: unit features of the views.
            logits: their logits.
        """
        statistics = view_statistics(views, logits, self.config.selection)
        kept = take_views(logits, statistics.views)  # (B, kept, C)
        boosters = map(
            Boosters, take_views(views, statistics.views), entropy(kept), kept.argmax(dim=2)
        )
        if self.config.seen_as == "image":
            statistics = view_statistics(views[:, :1], logits[:, :1], share=1.0)
        return [
            Prediction(self.predict_boosted(seen, own), unadapted_logits=seen.logits)
            for seen, own in zip(one_by_one(statistics), boosters, strict=True)
        ]

    def predict_boosted(self, seen: Seen, boosters: Boosters) -> Float[Tensor, " classes"]:
        """Take a sample into the caches, and return its logits with them and its own views."""
        config = self.config
        self.positive.add_certain(seen.label, seen.entropy, feature=seen.feature)
        if self.is_uncertain(seen):
            self.add_negative(seen)
        kept, kept_boosters = most_certain(self.positive, boosters, config.capacity + config.delta)
        weights = self.positive.affinities(seen.feature, config.beta)  # (L, C)
        raised = (weights * kept[: len(weights)]).sum(dim=0)
        own = affinity(boosters.features @ seen.feature, config.beta) * kept_boosters
        of_class = F.one_hot(boosters.labels, len(seen.logits)).to(own)  # (boosters, C)
        raised = raised + own @ of_class
        lowered = self.lowered_by_negative(seen)
        return seen.logits + config.alpha * raised - config.negative_alpha * lowered

    @override
    def add_negative(self, seen: Seen) -> None:
        """Keep a sample in the negative cache, in the place of the oldest of its class."""
        lowered = self.likely_classes(seen)
        self.negative.add_newest(seen.label, seen.entropy, feature=seen.feature, lowered=lowered)


def most_certain(
    cache: ClassCache, boosters: Boosters, capacity: int
) -> tuple[Bool[Tensor, "places classes"], Bool[Tensor, " boosters"]]:
    """Return which items and which boosters are among the most certain of their class.

    On equal entropies an item of the cache comes before a booster.

    Args:
        cache: the cache.
        boosters: the boosters, in rising order of entropy.
        capacity: the number of items that a class keeps, at least that of the cache.
    """
    labels, entropies = boosters.labels, boosters.entropies
    items = cache.entropies[:, labels]  # (K, boosters)
    same_class = labels[:, None] == labels  # (boosters, boosters)
    ranks = (items <= entropies).sum(dim=0) + same_class.tril(-1).sum(dim=1)
    # Boosters of an item's class that are more certain than it is.
    ahead = (same_class & (entropies < items[:, :, None])).sum(dim=2)  # (K, boosters)
    places = torch.arange(len(items), device=items.device)[:, None]  # (K, 1)
    kept = cache.filled
    kept[:, labels] &= places + ahead < capacity
    return kept, ranks < capacity
