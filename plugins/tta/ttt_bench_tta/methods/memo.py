"""MEMO: minimize the entropy of the mean prediction over augmented views of one image.

Paper: Zhang, Levine and Finn 2022, MEMO: Test Time Robustness via Adaptation and Augmentation
    (NeurIPS 2022, arXiv 2110.09506), section 3.
Code: zhangmarvin/memo (MIT licence).
Kind: sample. All parameters learn; every image starts from the trained weights and a new optimizer.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench import (
    AdapterConfig,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    WorkingCopy,
    marginal_entropy,
)
from ttt_bench_tta.adapter import AugMixAdapter
from ttt_bench_tta.normalization import (
    PriorStatistics,
    put_back,
    replace_batch_norm,
    trained,
    weights_of,
)
from ttt_bench_tta.optimizers import descend


class MemoConfig(AdapterConfig):
    """The paper's values for ImageNet and ResNet-50 (section 4)."""

    views: int = Field(64, ge=2, description="views of an image, the image included")
    steps: int = Field(1, ge=1, description="optimizer steps for each image")
    optimizer: Literal["sgd", "adamw"] = Field(
        "sgd", description="optimizer: sgd, or adamw as in the paper's transformers"
    )
    lr: float = Field(2.5e-4, gt=0, description="learning rate; 1e-5 with adamw")
    weight_decay: float = Field(0.0, ge=0, description="weight decay; 0.01 with adamw")
    prior: int = Field(
        16,
        ge=-1,
        description="weight of the trained BatchNorm statistics against the image's own, which "
        "has 1; -1 for the trained ones alone",
    )


def configure(model: WorkingCopy, prior: int) -> None:
    """Let all parameters learn, and mix the statistics: N/(N+1) trained and 1/(N+1) current.

    Args:
        model: the working copy.
        prior: N; -1 for the trained statistics alone.
    """

    def mixed(layer: nn.BatchNorm2d) -> PriorStatistics:
        return PriorStatistics(layer, float(prior), weight=1.0, unbiased=True)

    if prior >= 0:
        replace_batch_norm(model, mixed)
    model.requires_grad_()


def make_optimizer(model: WorkingCopy, config: MemoConfig) -> torch.optim.Optimizer:
    """Return a new optimizer of all parameters."""
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.SGD
    return kind(trained(model), lr=config.lr, weight_decay=config.weight_decay)


def learn(
    model: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    views: Float[Tensor, "views 3 side side"],
    image: Float[Tensor, "1 3 side side"],
    steps: int,
) -> Float[Tensor, "steps classes"]:
    """Minimize the marginal entropy of the views, and predict the image after every step.

    Args:
        model: the working copy, which is trained in place.
        optimizer: the optimizer of its parameters.
        views: the views.
        image: the image.
        steps: the number of steps.
    """
    predictions = []
    for _ in range(steps):
        descend(marginal_entropy(model(views)), optimizer)
        with torch.no_grad():
            predictions.append(model(image)[0])
    return torch.stack(predictions)  # (steps, classes)


class Memo(AugMixAdapter[MemoConfig]):
    """`memo`: one image, its views, one step.

    Attributes:
        model: the copy that learns, equal to the classifier between images.
        source: its weights between images, by name.
    """

    Config = MemoConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model, self.config.prior)
        self.source = weights_of(self.model)

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        return [self.predict(sample, rng) for sample, rng in zip(samples, rngs, strict=True)]

    def predict(self, sample: Sample, rng: SampleRNG) -> Prediction:
        """Adapt to one sample, predict it, and put the weights back."""
        views = self.task.view_pixels(sample, rng, self.view_set)
        image = views[:1]
        try:
            with self.task.forward_pass():
                with torch.no_grad():
                    unadapted = self.model(image)[0]
                optimizer = make_optimizer(self.model, self.config)
                steps = learn(self.model, optimizer, views, image, self.config.steps)
        finally:
            put_back(self.model, self.source)
        return Prediction(steps[-1], steps, unadapted)
