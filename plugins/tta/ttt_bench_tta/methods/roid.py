"""ROID: certain and diverse samples, weight ensembling and a prior correction.

Paper: Marsden, Döbler and Yang 2024, Universal Test-time Adaptation through Weight Ensembling,
    Diversity Weighting, and Prior Correction (WACV 2024, arXiv 2306.00650), section 3.
Code: mariodoebler/test-time-adaptation (MIT licence). Its augmentation extends images by
    mirroring at their borders, ours (CoTTA's) by repeating the last pixel.
Kind: stream. Weight and bias of the normalization layers learn, on the batch's own statistics.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy, entropy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.augmentation import Augmentation
from ttt_bench_tta.losses import symmetric_cross_entropy
from ttt_bench_tta.methods.tent import configure
from ttt_bench_tta.normalization import weights_of
from ttt_bench_tta.optimizers import TrainingConfig, descend, make_optimizer

Pixels = Float[Tensor, "batch 3 side side"]
StepConfigT = TypeVar("StepConfigT", bound="StepConfig")
# The largest probability in the likelihood ratio, and a small number for its logarithm.
CLIP, TINY = 0.99, 1e-5


class StepConfig(TrainingConfig):
    """The fields of a step of ROID, which CMF takes as well."""

    lr: float = Field(2.5e-4, gt=0, description="learning rate")
    mean_momentum: float = Field(
        0.9, ge=0, lt=1, description="weight of the past in the mean prediction"
    )
    temperature: float = Field(1 / 3, gt=0, description="temperature of the samples' weights")
    consistency: bool = Field(True, description="whether augmented views must agree as well")
    prior_correction: bool = Field(
        True, description="whether logits are multiplied by the batch's class frequencies"
    )


class RoidConfig(StepConfig):
    """The paper's values for ImageNet-C (section 4)."""

    source_share: float = Field(
        0.01, ge=0, le=1, description="share of the trained weights mixed in after each step"
    )


@dataclass(frozen=True)
class Step:
    """The settings of a step.

    Attributes:
        batch_size: samples in a full batch, by which losses are divided.
        temperature: temperature of the samples' weights.
        mean_momentum: weight of the past in the mean prediction.
    """

    batch_size: int
    temperature: float
    mean_momentum: float


def sample_weights(
    logits: Float[Tensor, "batch classes"], mean: Float[Tensor, " classes"], temperature: float
) -> Float[Tensor, " batch"]:
    """Return the weight of every sample, 0 for those that are too like the samples before.

    Args:
        logits: the predictions.
        mean: the mean prediction before.
        temperature: the temperature.

    Source: section 3.2.
    """
    probabilities = logits.softmax(dim=1)
    diversity = _to_unit_range(1 - F.cosine_similarity(mean[None], probabilities, dim=1))
    certainty = _to_unit_range(-entropy(logits))
    weights = torch.exp(diversity * certainty / temperature)
    return weights * (diversity >= diversity.mean())


def _to_unit_range(values: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Scale values to 0 up to 1; equal ones, such as a single one, become 0."""
    width = values.max() - values.min()
    return (values - values.min()) / torch.where(width > 0, width, torch.ones_like(width))


def likelihood_ratio(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """Return the soft likelihood ratio loss (section 3.1)."""
    probabilities = logits.softmax(dim=1).clamp(max=CLIP)
    ratio = probabilities / (1 - probabilities)
    return -(probabilities * torch.log(ratio + TINY)).sum(dim=1)


def correct_prior(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    """Multiply logits by the smoothed class frequencies of their batch (section 3.4)."""
    prior = logits.softmax(dim=1).mean(dim=0)
    samples, classes = logits.shape
    smoothing = max(1 / samples, 1 / classes) / prior.max()
    return logits * (prior + smoothing) / (1 + smoothing * classes)


def learn(
    model: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    pixels: Pixels,
    mean: Float[Tensor, " classes"],
    augment: Callable[[Pixels], Pixels] | None,
    step: Step,
) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, " classes"]]:
    """Learn from the weighted samples of a batch; return its logits and the new mean prediction.

    Args:
        model: the working copy, which is trained in place.
        optimizer: the optimizer of its parameters.
        pixels: the images.
        mean: the mean prediction before.
        augment: makes the views that must agree, None to leave them out.
        step: the settings.
    """
    logits = model(pixels)
    with torch.no_grad():
        weights = sample_weights(logits, mean, step.temperature)
        batch_mean = logits.softmax(dim=1).mean(dim=0)
        mean = step.mean_momentum * mean + (1 - step.mean_momentum) * batch_mean
    kept = weights > 0
    losses = likelihood_ratio(logits[kept])
    if augment is not None:
        losses = losses + symmetric_cross_entropy(model(augment(pixels[kept])), logits[kept])
    descend((losses * weights[kept]).sum() / step.batch_size, optimizer)
    return logits.detach(), mean


@torch.no_grad()
def move_towards(model: WorkingCopy, weights: dict[str, Tensor], share: float) -> None:
    """Mix a share of other weights into the parameters that learn.

    Args:
        model: the working copy.
        weights: the other weights, by name.
        share: their share.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.mul_(1 - share).add_(weights[name], alpha=share)


class StepAdapter(WorkingCopyAdapter[StepConfigT]):
    """A method that takes ROID's steps, and filters the weights after each.

    Attributes:
        optimizer: the optimizer, which lives as long as the stream.
        source: the parameters before any adaptation, by name.
        mean: the mean prediction, uniform at the start.
        augmentation: the random augmentation in the range of the pixels.
    """

    fixed = ("source", "augmentation")

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model)
        self.source = weights_of(self.model)
        self.optimizer = make_optimizer(self.model, self.config, nesterov=True)
        classes = len(task.classes)
        self.mean = torch.full((classes,), 1 / classes, device=task.device)
        self.augmentation = Augmentation(task.backbone)

    @override
    def predict(
        self, pixels: Float[Tensor, "batch 3 side side"], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch classes"]:
        config = self.config
        augment = self.augmentation.drawn_by(rngs[0]) if config.consistency else None
        logits, self.mean = learn(
            self.model,
            self.optimizer,
            pixels,
            self.mean,
            augment,
            Step(config.batch_size, config.temperature, config.mean_momentum),
        )
        self.filter_weights()
        return correct_prior(logits) if config.prior_correction else logits

    def filter_weights(self) -> None:
        """Change the weights that a step has learned."""
        raise NotImplementedError


class Roid(StepAdapter[RoidConfig]):
    """`roid`: learns from certain and diverse samples, near the trained weights."""

    Config = RoidConfig

    @override
    def filter_weights(self) -> None:
        move_towards(self.model, self.source, self.config.source_share)
