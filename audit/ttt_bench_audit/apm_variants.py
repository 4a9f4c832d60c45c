"""Variants of APM for the audit: habits of its released script, and a leak. None is for use.

Released script: github.com/rajatmodi62/apm, single_token_segmentation/train_tta.py. Nothing here is
copied from it. Network, weights, loss and optimizer are those of the method `apm`; a variant
changes what is new for each image or each step.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from ttt_bench_apm.methods.apm import APM, APMConfig, adam
from ttt_bench_apm.methods.apm_network import Weights
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG, Task

Optimizers = list[torch.optim.Adam]


class Variant(APM):
    """APM one image at a time, with a training of its own.

    Attributes:
        clears_gradients: whether gradients are cleared before each step, or once for an image.
    """

    clears_gradients: ClassVar[bool] = True

    def begin(self, drawn: Weights) -> tuple[Weights, Optimizers]:
        """Return the weights and the optimizers that an image begins with.

        Args:
            drawn: weights that are drawn anew for the image.
        """
        return drawn, adam(drawn, self.config.lr)

    def before_step(self, optimizers: Optimizers) -> None:
        """Prepare the optimizers for a step."""
        if self.clears_gradients:
            clear(optimizers)

    def training(
        self, drawn: Weights, image: Float[Tensor, "1 3 side side"], target: Float[Tensor, "1 dim"]
    ) -> Iterator[Float[Tensor, "1 dim"]]:
        """Yield the pooled feature of one image before every step and after the last.

        Args:
            drawn: weights that are drawn anew for the image.
            image: the image as the network sees it.
            target: the backbone's feature, not normalized.
        """
        weights, optimizers = self.begin(drawn)
        for _ in range(self.config.steps):
            self.before_step(optimizers)
            pooled = self.network(weights, image)  # (1, D)
            yield pooled.detach()
            (pooled - target).square().mean(dim=1).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
        clear(optimizers)
        with torch.no_grad():
            pooled = self.network(weights, image)
        yield pooled

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        targets = self.task.encode_image(samples)  # (B, D)
        images = self.task.pixels(samples, self.config.image_size)  # (B, 3, S, S)
        draw, predictions = self.draw(self.task), []
        for image, target, rng in zip(images.split(1), targets.split(1), rngs, strict=True):
            drawn = self.network.stack(self.task.draw([rng], draw), self.config.init_std)
            features = torch.cat(list(self.training(drawn, image, target)))  # (steps + 1, D)
            step_logits = self.task.logits(features[1:])  # (steps, classes)
            unadapted = self.task.logits(target[0])
            predictions.append(Prediction(step_logits[-1], step_logits, unadapted))
        return predictions


def clear(optimizers: Optimizers) -> None:
    """Clear the gradients of the optimizers' weights."""
    for optimizer in optimizers:
        optimizer.zero_grad()


class AddedGradients(Variant):
    """APM whose gradients are cleared once for an image, and so add up over its steps."""

    clears_gradients = False


class KeptMomentsConfig(APMConfig):
    """The configuration of APM with kept moments; the schedule is the released script's."""

    decay: Annotated[
        float,
        Field(gt=0, le=1, description="factor of the learning rate at each decay; 1 for none"),
    ] = 0.1
    decay_every: Annotated[int, Field(ge=1, description="steps between two decays")] = 200
    batch_size: Annotated[
        int, Field(ge=1, description="samples in a batch; changes no prediction")
    ] = 1


class KeptMoments(Variant):
    """APM with one Adam and one schedule for all images of a stream.

    Weights are drawn anew for each image. Moments, step counts and the learning rate go on.
    """

    Config = KeptMomentsConfig
    config: KeptMomentsConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        shapes = self.network.sizes.shapes()
        zeros = {name: torch.zeros(shape) for name, shape in shapes.items()}
        self.weights = self.network.stack([zeros], self.config.init_std)
        self.optimizers = adam(self.weights, self.config.lr)
        self.steps_made = 0

    @override
    def begin(self, drawn: Weights) -> tuple[Weights, Optimizers]:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(drawn[name])
        return self.weights, self.optimizers

    @override
    def before_step(self, optimizers: Optimizers) -> None:
        super().before_step(optimizers)
        decays = self.steps_made // self.config.decay_every
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.config.lr * self.config.decay**decays
        self.steps_made += 1

    @override
    def state(self) -> dict[str, Any]:
        # The optimizers hold the weights.
        return {"optimizers": self.optimizers, "steps_made": self.steps_made}


class Leaking(Variant):
    """APM whose network begins with the weights that the image before left."""

    def __init__(self, config: APMConfig) -> None:
        super().__init__(config)
        self.weights: Weights | None = None

    @override
    def begin(self, drawn: Weights) -> tuple[Weights, Optimizers]:
        if self.weights is None:
            self.weights = drawn
        return self.weights, adam(self.weights, self.config.lr)
