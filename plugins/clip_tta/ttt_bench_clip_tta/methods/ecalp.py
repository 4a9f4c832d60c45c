"""ECALP: labels spread over a growing graph of class texts and test images.

Paper: Li, Su, Goodge, Jia and Xu 2025, Efficient and Context-Aware Label Propagation for
    Zero-/Few-Shot Training-Free Adaptation of Vision-Language Model (ICLR 2025, arXiv 2412.18303),
    section 3.
Code: Yushu-Li/ECALP (MIT licence).
Kind: stream. Nothing is trained; the feature of every sample is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG
from ttt_bench_clip_tta.adapter import EncodedTogetherConfig, TextAdapter
from ttt_bench_clip_tta.prompts import PromptConfig
from ttt_bench_clip_tta.views import finite_log

# Added to the roots of degrees.
EPSILON = 1e-6
# Share of its largest label that a node begins the next sample with.
KEPT_SHARE = 0.2


class EcalpConfig(PromptConfig, EncodedTogetherConfig):
    """The release's values, the same for every dataset."""

    text_neighbours: int = Field(3, ge=1, description="classes that an image is joined to")
    image_neighbours: int = Field(8, ge=1, description="images that an image is joined to")
    gamma: int = Field(10, ge=1, description="power of the similarities")
    rounds: int = Field(3, ge=1, description="rounds in which labels spread")


@dataclass(frozen=True)
class Edges:
    """Edges from each image to its most similar nodes of a kind.

    Attributes:
        similarities: in falling order; minus infinity for a missing edge.
        nodes: the nodes.
    """

    similarities: Float[Tensor, "images places"]
    nodes: Int[Tensor, "images places"]

    def with_candidate(
        self, similarities: Float[Tensor, " images"], node: int, first: bool = False
    ) -> "Edges":
        """Return the most similar ones of these nodes and another.

        Args:
            similarities: that of each image to the other node.
            node: the other node.
            first: whether the other one comes before those that are as similar.
        """
        other = Edges(similarities[:, None], torch.full_like(self.nodes[:, :1], node))
        pair = (other, self) if first else (self, other)
        together = torch.cat([edges.similarities for edges in pair], dim=1)
        nodes = torch.cat([edges.nodes for edges in pair], dim=1)
        order = together.argsort(dim=1, descending=True, stable=True)[:, : self.nodes.shape[1]]
        return Edges(together.gather(1, order), nodes.gather(1, order))

    def extended(self, others: "Edges") -> "Edges":
        """Return the edges of these images followed by those of others."""
        return Edges(
            torch.cat([self.similarities, others.similarities]),
            torch.cat([self.nodes, others.nodes]),
        )

    def weights(self, gamma: int) -> Float[Tensor, "images places"]:
        """Return the weight of every edge, 0 for a missing one."""
        powers = self.similarities**gamma
        return powers.masked_fill(self.similarities.isinf(), 0)


def most_similar(similarities: Float[Tensor, " nodes"], places: int) -> Edges:
    """Return the edges of one image, given its similarity to every node.

    Args:
        similarities: the similarities.
        places: the number of edges; those that there are too few nodes for are missing.
    """
    kept = similarities.topk(min(places, len(similarities)))
    missing = places - len(kept.values)
    values = F.pad(kept.values, (0, missing), value=-torch.inf)
    return Edges(values[None], F.pad(kept.indices, (0, missing))[None])


def spread(
    to_images: Edges,
    to_texts: Edges,
    start: Float[Tensor, "images classes"],
    gamma: int,
    rounds: int,
) -> Float[Tensor, "images classes"]:
    """Return the labels of every image after labels have spread over the graph.

    Texts keep their own labels. Edges count in both directions, and a weight is divided by the
    roots of both nodes' degrees.

    Args:
        to_images: edges from every image to images.
        to_texts: edges from every image to class texts.
        start: the labels that the images begin with.
        gamma: power of the similarities.
        rounds: the number of rounds.
    """
    weights, text_weights = to_images.weights(gamma), to_texts.weights(gamma)
    texts = torch.zeros_like(start).scatter_(1, to_texts.nodes, text_weights)

    def from_images(values: Float[Tensor, "images size"]) -> Float[Tensor, "images size"]:
        total = torch.zeros_like(values)
        for weight, nodes in zip(weights.T[:, :, None], to_images.nodes.T, strict=True):
            total += weight * values[nodes]
            # The other direction; in an order that does not depend on the device's threads.
            total.index_put_((nodes,), weight * values, accumulate=True)
        return total

    degrees = from_images(torch.ones_like(start[:, :1])) + texts.sum(dim=1, keepdim=True)
    scale = 1 / (degrees.sqrt() + EPSILON)  # (images, 1)
    from_texts = scale * texts / (texts.sum(dim=0).sqrt() + EPSILON)
    labels = start
    for _ in range(rounds):
        labels = from_texts + scale * from_images(scale * labels)
    return labels


class Ecalp(TextAdapter[EcalpConfig]):
    """`ecalp`: the labels of a sample's own node in the graph of all samples so far.

    Attributes:
        text: the unit text feature of each class.
        scale: the factor of cosines, for what CLIP alone says.
        importance: how much each dimension of a feature tells classes apart.
        keys: the feature of each image so far, weighted by `importance`, unit.
        images: edges to images, by the names of their attributes.
        texts: edges to texts, likewise.
        start: the label of each image with which the next sample begins.
    """

    Config = EcalpConfig

    @override
    def begin(self) -> None:
        """Begin a stream without images."""
        classes, config = len(self.text), self.config
        self.importance = dimension_weights(self.text)
        self.keys = self.text[:0]
        self.start = self.text.new_zeros(0, classes)
        self.images = vars(self.no_edges(config.image_neighbours))
        self.texts = vars(self.no_edges(min(config.text_neighbours, classes)))

    def no_edges(self, places: int) -> Edges:
        """Return the edges of no image."""
        nodes = torch.zeros(0, places, dtype=torch.int64, device=self.text.device)
        return Edges(self.text.new_zeros(0, places), nodes)

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        features = self.encode_images(samples)
        predictions = []
        for feature in features:
            labels = self.predict(feature)[-1]
            scores = finite_log(labels)
            plain = self.scale * (self.text @ feature)
            predictions.append(Prediction(scores, unadapted_logits=plain))
        return predictions

    def predict(self, feature: Float[Tensor, " dim"]) -> Float[Tensor, "images_and_one classes"]:
        """Add an image to the graph, and return the labels of all images, then of its copy.

        The copy is a second node of the image, which is predicted and dropped.

        Args:
            feature: the unit feature of the image.
        """
        config, number = self.config, len(self.keys)
        key = F.normalize(feature * self.importance, dim=0)
        similar, own = self.keys @ feature, (key @ feature)[None]  # (images), (1)
        places = config.image_neighbours
        older = Edges(**self.images).with_candidate(similar, number)
        newest = most_similar(torch.cat([similar, own]), places)
        with_copy = most_similar(torch.cat([similar, own, own]), places)
        to_texts = most_similar(self.text @ feature, min(config.text_neighbours, len(self.text)))
        texts = Edges(**self.texts).extended(to_texts)
        graph = older.with_candidate(similar, number + 1, first=True)
        graph = graph.extended(with_copy).extended(with_copy)
        start = F.pad(self.start, (0, 0, 0, 2))  # (images + 2, C)
        labels = spread(graph, texts.extended(to_texts), start, config.gamma, config.rounds)
        self.keys = torch.cat([self.keys, key[None]])
        self.images, self.texts = vars(older.extended(newest)), vars(texts)
        self.start = strongest(labels[:-1])
        return labels


def dimension_weights(text: Float[Tensor, "classes dim"]) -> Float[Tensor, " dim"]:
    """Return how much each dimension tells the classes apart: a unit vector of their variances."""
    # A single class has no variance.
    return F.normalize(text.var(dim=0), dim=0) if len(text) > 1 else torch.ones_like(text[0])


def strongest(labels: Float[Tensor, "images classes"]) -> Float[Tensor, "images classes"]:
    """Return a share of the largest label of each image, and 0 for its other labels."""
    best = labels.max(dim=1, keepdim=True)
    return torch.zeros_like(labels).scatter_(1, best.indices, KEPT_SHARE * best.values)
