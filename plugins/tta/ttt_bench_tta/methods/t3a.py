"""T3A: a classifier adjusted by the most confident features of every class.

Paper: Iwasawa and Matsuo 2021, Test-Time Classifier Adjustment Module for Model-Agnostic Domain
    Generalization (NeurIPS 2021), section 3.
Code: matsuolab/T3A (MIT licence).
Kind: stream. Nothing is trained; up to `filter_k` features of every class are kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Adapter, AdapterConfig, Prediction, Sample, SampleRNG, Task, entropy

Classify = Callable[[Float[Tensor, "batch dim"]], Float[Tensor, "batch classes"]]


class T3AConfig(AdapterConfig):
    """The fields of T3A; the paper chooses `filter_k` on training domains (section 4.1)."""

    batch_size: int = Field(32, ge=1, description="samples in a batch")
    filter_k: int = Field(20, ge=1, description="features kept of every class, the paper's M")


@dataclass
class Supports:
    """The support set: features, and what the trained classifier said of each.

    Attributes:
        features: the features, not normalized.
        labels: their classes.
        entropies: the entropies of their predictions.
    """

    features: Float[Tensor, "supports dim"]
    labels: Int[Tensor, " supports"]
    entropies: Float[Tensor, " supports"]

    @classmethod
    def judged(cls, features: Float[Tensor, "supports dim"], classify: Classify) -> "Supports":
        """Return features with the labels and entropies that a classifier gives them."""
        logits = classify(features)
        return cls(features, logits.argmax(dim=1), entropy(logits))

    def extended(self, others: "Supports") -> "Supports":
        """Return these supports followed by others."""
        return Supports(
            torch.cat([self.features, others.features]),
            torch.cat([self.labels, others.labels]),
            torch.cat([self.entropies, others.entropies]),
        )

    def filtered(self, k: int, classes: int) -> "Supports":
        """Return the k supports of lowest entropy of every class.

        Args:
            k: how many.
            classes: the number of classes.
        """
        kept = []
        for label in range(classes):
            members = (self.labels == label).nonzero()[:, 0]  # (members, 1) -> (members)
            order = self.entropies[members].argsort(stable=True)
            kept.append(members[order[:k]])
        chosen = torch.cat(kept)
        return Supports(self.features[chosen], self.labels[chosen], self.entropies[chosen])

    def scores(
        self, features: Float[Tensor, "batch dim"], classes: int
    ) -> Float[Tensor, "batch classes"]:
        """Return the products of features with the mean direction of every class's supports.

        Args:
            features: the features to classify, not normalized.
            classes: the number of classes; one without supports scores 0.
        """
        members = F.one_hot(self.labels, classes).to(self.features.dtype)  # (supports, classes)
        directions = members.T @ F.normalize(self.features, dim=1)  # (classes, dim)
        return features @ F.normalize(directions, dim=1).T


class T3A(Adapter[T3AConfig]):
    """`t3a`: the frozen model with a classifier made of its own confident features.

    Attributes:
        supports: the tensors of the support set, by the names of its attributes.
    """

    Config = T3AConfig

    @override
    @torch.no_grad()
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.supports = vars(Supports.judged(task.class_weights(), task.logits))

    @override
    def samples_kept(self) -> int:
        return self.config.filter_k * len(self.task.classes)

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        features, classes = self.task.encode_image(samples), len(self.task.classes)
        before = Supports(**self.supports)
        with_batch = before.extended(Supports.judged(features, self.task.logits))
        supports = with_batch.filtered(self.config.filter_k, classes)
        self.supports = vars(supports)
        return [Prediction(scores) for scores in supports.scores(features, classes)]
