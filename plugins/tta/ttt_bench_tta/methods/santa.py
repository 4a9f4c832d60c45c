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
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy
from ttt_bench_tta.contrast import ContrastAdapter, ContrastConfig, contrastive
from ttt_bench_tta.losses import cross_entropy
from ttt_bench_tta.methods.tent import configure
from ttt_bench_tta.optimizers import descend

Pixels = Float[Tensor, "batch 3 side side"]


class SantaConfig(ContrastConfig):
    """The release's values for ImageNet-C."""


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


class Santa(ContrastAdapter[SantaConfig]):
    """`santa`: a student that the trained model holds and prototypes align.

    Attributes:
        anchor: the trained model.
    """

    Config = SantaConfig
    name = "santa"
    fixed = ("anchor", *ContrastAdapter.fixed)

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.anchor = copy.deepcopy(self.model).requires_grad_(False)

    @override
    def choose_parameters(self) -> None:
        configure(self.model)

    @override
    def predict(self, pixels: Pixels, rngs: Sequence[SampleRNG]) -> Float[Tensor, "batch classes"]:
        config = self.config
        self.draw_once(rngs[0])
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
