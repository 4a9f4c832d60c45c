"""SANTA: a source anchor, and contrastive learning with prototypes of the training images.

Paper: Chakrabarty, Sreenivas and Biswas 2023, SANTA: Source Anchoring Network and Target Alignment
    for Continual Test Time Adaptation (TMLR 2023), equations 1 to 5 as its authors' page
    (manogna-s.github.io/santa) numbers them.
Code: mariodoebler/test-time-adaptation, santa.py (MIT licence).
Kind: stream. Weight and bias of the normalization layers learn, on the batch's own statistics.
    The setup sees labelled training images.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.augmentation import Augmentation
from ttt_bench_tta.contrast import Projector, class_means, contrastive
from ttt_bench_tta.losses import cross_entropy
from ttt_bench_tta.methods.tent import configure
from ttt_bench_tta.optimizers import TrainingConfig, descend, make_optimizer
from ttt_bench_tta.source import require_training_images

Pixels = Float[Tensor, "batch 3 side side"]


class SantaConfig(TrainingConfig):
    """The release's values for ImageNet-C."""

    lr: float = Field(0.01, gt=0, description="learning rate")
    contrast_weight: float = Field(1.0, ge=0, description="weight of the contrastive loss")
    temperature: float = Field(0.1, gt=0, description="tau: temperature of the contrast")
    prototype_images: int = Field(
        100_000, ge=1, description="training images for the class means, at most"
    )


def learn(
    student: WorkingCopy,
    anchor: WorkingCopy,
    projector: nn.Module,
    optimizer: torch.optim.Optimizer,
    pixels: Pixels,
    augment: Callable[[Pixels], Pixels],
    prototypes: Float[Tensor, "prototypes dim"],
    contrast_weight: float,
    temperature: float,
    anchor_as_cost: bool = False,
) -> Float[Tensor, "batch classes"]:
    """Take a step of the student, and return its logits before it.

    Args:
        student: the model that learns, in place.
        anchor: the trained model.
        projector: maps features to the space of the contrast, and learns too.
        optimizer: the optimizer of student and projector.
        pixels: the images.
        augment: makes an augmented copy of the batch.
        prototypes: the mean features of the classes.
        contrast_weight: the weight of the contrastive loss.
        temperature: the temperature of the contrast.
        anchor_as_cost: whether the logarithm is that of the anchor, as in the release, which pulls
            the student to the anchor's most likely class.
    """
    features, augmented = student.features(pixels), student.features(augment(pixels))
    logits = student.classify(features)
    with torch.no_grad():
        target = anchor(pixels)
    losses: list[Tensor] = []
    for predicted in (logits, student.classify(augmented)):
        pair = (predicted, target) if anchor_as_cost else (target, predicted)
        losses.append(cross_entropy(*pair).mean() / 2)
    if contrast_weight:
        contrast = contrastive(projector, prototypes, features, augmented, temperature)
        losses.append(contrast_weight * contrast)
    descend(torch.stack(losses).sum(), optimizer)
    return logits.detach()


class Santa(WorkingCopyAdapter[SantaConfig]):
    """`santa`: a student that the trained model holds and prototypes align.

    Attributes:
        anchor: the trained model.
        projector: maps features to the space of the contrast.
        drawn: whether the projector has its weights, which are drawn with the first batch.
        optimizer: the optimizer of the student, `model`, and of the projector.
        prototypes: the mean features of the classes.
        augmentation: the random augmentation in the range of the pixels.
    """

    Config = SantaConfig
    fixed = ("anchor", "prototypes", "augmentation")

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        require_training_images(task, "santa", instead="roid")
        configure(self.model)
        self.anchor = copy.deepcopy(self.model).requires_grad_(False)
        self.projector = Projector(task.backbone.feature_dim).to(task.device)
        self.drawn = False
        learning = nn.ModuleList([self.model, self.projector])
        self.optimizer = make_optimizer(learning, self.config, nesterov=True)
        self.augmentation = Augmentation(task.backbone)
        self.prototypes = task.once("class means", self.class_means)

    def class_means(self) -> Float[Tensor, "prototypes dim"]:
        """Return the mean feature of every class; the same for every stream."""
        config = self.config
        return class_means(self.model, self.task, config.batch_size, config.prototype_images)

    @override
    def predict(self, pixels: Pixels, rngs: Sequence[SampleRNG]) -> Float[Tensor, "batch classes"]:
        config = self.config
        if not self.drawn:
            self.projector.draw(rngs[0])
            self.drawn = True
        return learn(
            self.model,
            self.anchor,
            self.projector,
            self.optimizer,
            pixels,
            self.augmentation.drawn_by(rngs[0]),
            self.prototypes,
            config.contrast_weight,
            config.temperature,
        )
