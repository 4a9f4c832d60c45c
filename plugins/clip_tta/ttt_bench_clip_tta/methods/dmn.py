"""DMN: a dynamic memory of test features, read by their likeness to a sample.

Paper: Zhang, Zhu, Tang, Ma, Zhou and Zhang 2024, Dual Memory Networks: A Versatile Adaptation
    Approach for Vision-Language Models (CVPR 2024, arXiv 2403.17589), section 3; its zero-shot
    variant DMN-ZS.
Code: YBZh/DMN (MIT licence).
Kind: stream. Nothing is trained; up to `capacity` features of every class are kept.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG
from ttt_bench_clip_tta.adapter import ConfidentViewConfig, OneByOneConfig, ViewAdapter
from ttt_bench_clip_tta.cache import ClassCache, affinity
from ttt_bench_clip_tta.views import finite_log, view_statistics


class DMNConfig(ConfidentViewConfig, OneByOneConfig):
    """The release's values; it has 32 views, and chooses `weight` by the test labels."""

    capacity: int = Field(50, ge=1, description="features of each class in the memory")
    beta: float = Field(5.5, gt=0, description="sharpness of the memory")
    weight: float = Field(
        1.0, ge=0, description="weight of the memory's distribution; that of the texts is 1"
    )


class DMN(ViewAdapter[DMNConfig]):
    """`dmn`: the distribution by the class texts, and one by the memory.

    Attributes:
        memory: the most certain features of each class.
    """

    Config = DMNConfig

    @override
    def begin(self) -> None:
        """Begin a stream with an empty memory."""
        classes, size = self.text.shape
        self.memory = ClassCache(classes, self.config.capacity, self.text.device, feature=size)

    @override
    def samples_kept(self) -> int:
        return self.config.capacity * len(self.task.classes)

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        views = self.encode(samples, rngs)
        logits = self.logits(views)
        plain = logits[:, 0]
        return [
            Prediction(self.scores(of_text, of_memory), unadapted_logits=of_text)
            for of_text, of_memory in zip(plain, self.read_batch(views, logits), strict=True)
        ]

    def scores(
        self, text_logits: Float[Tensor, " classes"], memory_logits: Float[Tensor, " classes"]
    ) -> Float[Tensor, " classes"]:
        """Return the logarithm of the weighted sum of both distributions."""
        mixed = text_logits.softmax(dim=0) + self.config.weight * memory_logits.softmax(dim=0)
        return finite_log(mixed)

    def read_batch(
        self,
        views: Float[Tensor, "batch views dim"],
        logits: Float[Tensor, "batch views classes"],
    ) -> list[Float[Tensor, " classes"]]:
        """Take the samples of a batch into the memory, and read it, one sample after another.

        Args:
            views: unit features of the views.
            logits: their logits.
        """
        statistics = view_statistics(views, logits, self.config.selection)
        labels = statistics.probabilities.argmax(dim=1).tolist()
        read = []
        for label, entropy, plain in zip(
            labels, statistics.entropy.tolist(), views[:, 0], strict=True
        ):
            self.memory.add_certain(label, entropy, feature=plain)
            read.append(self.read(plain))
        return read

    def read(self, feature: Float[Tensor, " dim"]) -> Float[Tensor, " classes"]:
        """Return the logits of a feature by what the memory holds of each class.

        A class is the mean of its features and its text, each weighted by its affinity.

        Args:
            feature: a unit feature.
        """
        weights = self.memory.affinities(feature, self.config.beta)  # (L, C)
        items = self.memory.features[: len(weights)].transpose(0, 1)  # (L, C, D) -> (C, L, D)
        sums = torch.bmm(weights.T[:, None], items)[:, 0]  # (C, 1, L) @ (C, L, D) -> (C, D)
        of_text = affinity(self.text @ feature, self.config.beta)  # (C)
        classifier = F.normalize(sums + of_text[:, None] * self.text, dim=1)
        return self.scale * (classifier @ feature)
