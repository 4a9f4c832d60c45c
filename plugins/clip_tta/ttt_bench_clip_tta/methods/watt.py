"""WATT: the image tower learns with one prompt after another, and its weights are averaged.

Paper: Osowiechi, Noori, Vargas Hakim, Yazdanpanah, Bahri, Cheraghalikhani, Dastani, Beizaee, Ben
    Ayed and Desrosiers 2024, WATT: Weight Average Test-Time Adaptation of CLIP (NeurIPS 2024, arXiv
    2406.13875), section 3.
Code: Mehrdad-Noori/WATT (no licence); nothing of it is used here.
Kind: batch. The image tower's LayerNorm layers learn on a batch and are put back.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, field_validator
from torch import Tensor
from typing_extensions import override

from ttt_bench import DualEncoder, WorkingCopy
from ttt_bench_clip_tta.alignment import alignment_loss
from ttt_bench_clip_tta.batch_adapter import TowerAdapter, TowerConfig
from ttt_bench_clip_tta.layer_norms import LayerNorms, mean_of

Order = Literal["sequential", "parallel"]
# The paper's (table 1), with the release's full stops.
TEMPLATES = (
    "a photo of a {}",
    "itap of a {}",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


class WattConfig(TowerConfig):
    """The release's values (its scripts for CIFAR)."""

    order: Order = Field(
        "sequential",
        description="whether templates of a round go on from each other's weights, WATT-S, or all "
        "start from the round's, WATT-P",
    )
    steps: int = Field(2, ge=1, description="Adam steps with each template, the paper's L")
    rounds: int = Field(5, ge=1, description="rounds over the templates, the paper's M")
    templates: tuple[str, ...] = Field(
        TEMPLATES, min_length=1, description="prompt templates to learn with, and to classify with"
    )

    @field_validator("templates")
    @classmethod
    def _have_a_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"the template {template!r} needs one {{}} for the class name")
        return templates


@dataclass(frozen=True)
class Step:
    """A step of Adam.

    Attributes:
        loss: the loss before it.
        labels: the pseudo-label of each image.
    """

    loss: Float[Tensor, ""]
    labels: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Schedule:
    """How many steps there are, and in which order.

    Attributes:
        order: sequential or parallel.
        steps: steps with each template.
        rounds: rounds over the templates.
        lr: learning rate of Adam.
    """

    order: Order
    steps: int
    rounds: int
    lr: float


def learn(
    model: WorkingCopy,
    pixels: Float[Tensor, "batch 3 side side"],
    texts: Float[Tensor, "templates classes dim"],
    scale: Float[Tensor, ""],
    schedule: Schedule,
) -> list[Step]:
    """Train the LayerNorm layers of a copy with each template in turn, and average them.

    As released, a parallel round after the first goes on with Adam's moments.

    Args:
        model: the working copy, which is trained in place.
        pixels: the images.
        texts: unit features of every class under every template.
        scale: the factor of cosines.
        schedule: the steps.
    """
    norms, taken = LayerNorms(model), list[Step]()
    optimizer = torch.optim.Adam(norms.parameters, lr=schedule.lr)
    for number in range(schedule.rounds):
        start, records = norms.values(), list[list[Tensor]]()
        for text in texts:
            if schedule.order == "parallel":
                norms.put(start)
                if number == 0:
                    optimizer = torch.optim.Adam(norms.parameters, lr=schedule.lr)
            for _ in range(schedule.steps):
                taken.append(take_step(model, optimizer, pixels, text, scale))
            records.append(norms.values())
        norms.put(mean_of(records))
    return taken


def take_step(
    model: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    pixels: Float[Tensor, "batch 3 side side"],
    text: Float[Tensor, "classes dim"],
    scale: Float[Tensor, ""],
) -> Step:
    """Align the images with the texts of their pseudo-labels by one step.

    Args:
        model: the working copy, which is trained in place.
        optimizer: the optimizer of its LayerNorm layers.
        pixels: the images.
        text: unit features of the classes under one template.
        scale: the factor of cosines.
    """
    images = F.normalize(model.features(pixels).float(), dim=1)
    labels = (images.detach() @ text.T).argmax(dim=1)
    loss = alignment_loss(images, text[labels], scale)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return Step(loss.detach(), labels)


def average(texts: Float[Tensor, "templates classes dim"]) -> Float[Tensor, "classes dim"]:
    """Return the mean over templates of unit text features, normalized again."""
    return F.normalize(texts.mean(dim=0), dim=1)


class Watt(TowerAdapter[WattConfig]):
    """`watt`: weight averages over prompts, WATT-S or WATT-P.

    Attributes:
        by_template: unit features of every class under every template.
    """

    Config = WattConfig

    @override
    def class_texts(self) -> Float[Tensor, "classes dim"]:
        """Return the average over templates, and keep the features under each."""
        backbone, names = self.task.require(DualEncoder), self.task.classes.names
        features = [backbone.class_features(names, [t]) for t in self.config.templates]
        self.by_template = torch.stack(features)  # (templates, classes, dim)
        return average(self.by_template)

    @override
    def learn(self, pixels: Float[Tensor, "batch 3 side side"]) -> None:
        config = self.config
        schedule = Schedule(config.order, config.steps, config.rounds, config.lr)
        learn(self.model, pixels, self.by_template, self.scale, schedule)
