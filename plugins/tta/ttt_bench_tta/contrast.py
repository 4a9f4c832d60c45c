"""Contrastive learning with prototypes of the training images, as RMT and SANTA use it.

Source: RMT (Döbler, Marsden and Yang 2023, arXiv 2211.13081, section 3); the loss is that of
    supervised contrastive learning (Khosla et al. 2020, arXiv 2004.11362, equation 2).
"""

from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy, seeded
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.augmentation import Augmentation
from ttt_bench_tta.optimizers import TrainingConfig, make_optimizer
from ttt_bench_tta.source import TrainingBatches, require_training_images

# The size of the space in which vectors are compared.
DIM = 128
ContrastConfigT = TypeVar("ContrastConfigT", bound="ContrastConfig")


class Projector(nn.Sequential):
    """Two layers that map features to the space in which they are compared."""

    def __init__(self, dim: int) -> None:
        """Make the layers; `draw` gives them their weights.

        Args:
            dim: the size of a feature.
        """
        with seeded(0):
            super().__init__(nn.Linear(dim, DIM), nn.ReLU(), nn.Linear(DIM, DIM))

    def draw(self, rng: SampleRNG) -> None:
        """Draw the weights anew, by the generator of a stream's first sample."""
        with seeded(rng.torch("projector").initial_seed()):
            for layer in self:
                if isinstance(layer, nn.Linear):
                    device = layer.weight.device
                    layer.cpu().reset_parameters()
                    layer.to(device)


class ContrastConfig(TrainingConfig):
    """The fields of a method that contrasts features with prototypes."""

    lr: float = Field(0.01, gt=0, description="learning rate")
    contrast_weight: float = Field(1.0, ge=0, description="weight of the contrastive loss")
    temperature: float = Field(0.1, gt=0, description="tau: temperature of the contrast")
    prototype_images: int = Field(
        100_000, ge=1, description="training images for the class means, at most"
    )


class ContrastAdapter(WorkingCopyAdapter[ContrastConfigT]):
    """A student that learns by the contrast with the class means of the training images.

    Attributes:
        name: the method's name.
        projector: maps features to the space of the contrast.
        drawn: whether the projector has its weights, which are drawn with the first batch.
        optimizer: the optimizer of the student, `model`, and of the projector.
        prototypes: the mean features of the classes.
        augmentation: the random augmentation in the range of the pixels.
    """

    name: ClassVar[str]
    fixed = ("prototypes", "augmentation")

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        require_training_images(task, self.name, instead="roid")
        self.choose_parameters()
        self.projector = Projector(task.backbone.feature_dim).to(task.device)
        self.drawn = False
        learning = nn.ModuleList([self.model, self.projector])
        self.optimizer = make_optimizer(learning, self.config, nesterov=True)
        self.augmentation = Augmentation(task.backbone)
        self.prototypes = task.once("class means", self.class_means)

    def choose_parameters(self) -> None:
        """Choose what of the student learns, and by which statistics it normalizes."""
        raise NotImplementedError

    def class_means(self) -> Float[Tensor, "prototypes dim"]:
        """Return the mean feature of every class; the same for every stream."""
        config = self.config
        return class_means(self.model, self.task, config.batch_size, config.prototype_images)

    def draw_once(self, rng: SampleRNG) -> None:
        """Draw the weights of the projector by the first sample of the stream."""
        if not self.drawn:
            self.projector.draw(rng)
            self.drawn = True


@torch.no_grad()
def class_means(
    model: WorkingCopy, task: Task, batch_size: int, most: int
) -> Float[Tensor, "prototypes dim"]:
    """Return the mean feature of every class that has training images.

    Args:
        model: the working copy, as it is before any adaptation.
        task: the task with labelled training images.
        batch_size: images in a batch, by whose statistics BatchNorm layers normalize.
        most: how many images are taken at most.
    """
    batches = TrainingBatches(task, batch_size, most)
    with task.forward_pass():
        features = [model.features(batches.pixels(n)).float() for n in range(len(batches))]
    labels = torch.cat([batches.labels(number) for number in range(len(batches))])
    return means(torch.cat(features), labels)


def means(features: Float[Tensor, "images dim"], labels: Tensor) -> Float[Tensor, "prototypes dim"]:
    """Return the mean feature of every class that occurs, in the order of the classes."""
    return torch.stack([features[labels == label].mean(dim=0) for label in labels.unique()])


def nearest(
    prototypes: Float[Tensor, "prototypes dim"], features: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch dim"]:
    """Return the prototype that is most like each feature, by the cosine."""
    cosines = F.normalize(features, dim=1) @ F.normalize(prototypes, dim=1).T
    return prototypes[cosines.argmax(dim=1)]


def contrastive(
    projector: nn.Module,
    prototypes: Float[Tensor, "prototypes dim"],
    features: Float[Tensor, "batch dim"],
    augmented: Float[Tensor, "batch dim"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the loss that pulls feature, augmented feature and nearest prototype together.

    Args:
        projector: maps features to the space in which they are compared.
        prototypes: the mean features of the classes.
        features: those of the images.
        augmented: those of an augmented copy of the images.
        temperature: the divisor of cosines.
    """
    features, augmented = features.float(), augmented.float()
    count = len(features)
    vectors = torch.cat([nearest(prototypes, features.detach()), features, augmented])
    units = F.normalize(projector(vectors), dim=1)
    itself = torch.eye(3 * count, dtype=torch.bool, device=units.device)
    similarities = (units @ units.T / temperature).masked_fill(itself, -torch.inf)
    log_shares = similarities.log_softmax(dim=1).masked_fill(itself, 0.0)
    partners = torch.arange(3 * count, device=units.device) % count
    positive = (partners[:, None] == partners[None]) & ~itself  # (3B, 3B)
    # Each vector has two partners.
    return -(log_shares * positive).sum(dim=1).mean() / 2
