"""APM: a fresh perception network for every image, trained on one feature of the frozen backbone.

Paper: Modi and Rawat, Asynchronous Perception Machine for Efficient Test-Time Training, NeurIPS
2024, arXiv 2410.20535, sections 3 and 4.
Official code: github.com/rajatmodi62/apm, folder single_token_segmentation (Apache-2.0 by its
README; the repository has also carried BSD-3-Clause-Clear). Nothing here is copied from it.
Kind: sample (episodic). Weights and optimizer are new for every image.

For every image:

1. The frozen backbone, APM's teacher, gives its feature f of the image.
2. A network is drawn at random. It predicts a feature at every location of a grid over the image
   and pools them into one feature g (apm_network.py).
3. Adam trains all weights of the network on the mean squared error of g to f, for 20 steps.
4. The backbone's classifier is applied to g after every step. The last step is the prediction.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import (
    Adapter,
    AdapterConfig,
    Inputs,
    NormalDraw,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    UserError,
)
from ttt_bench_apm.methods.apm_network import Network, Sizes, Weights

# Parameters that are trained together. Small networks gain from a stack (fewer, larger kernels);
# one network of the released sizes keeps a machine busy alone, and a stack leaves the CPU's cache.
STACKED_PARAMETERS = 2**24
# Float32 numbers in the widest vector registers.
VECTOR = 16

Width = Annotated[int, Field(gt=0)]


class APMConfig(AdapterConfig):
    """The configuration of APM; the defaults are the released script's values."""

    steps: Annotated[int, Field(ge=1, le=100_000, description="Adam steps per sample")] = 20
    lr: Annotated[float, Field(gt=0, description="learning rate of Adam")] = 1e-4
    init_std: Annotated[
        float, Field(gt=0, description="standard deviation of the initial weights")
    ] = 0.01
    pooling: Annotated[
        Literal["attention", "mean"],
        Field(
            description="pooling over locations: attention (the release), mean (the paper's figure)"
        ),
    ] = "attention"
    heads: Annotated[int, Field(ge=1, description="attention heads of the pooling")] = 8
    widths: Annotated[
        tuple[Width, Width, Width], Field(description="widths of the three hidden layers")
    ] = (4096, 2048, 1024)
    image_size: Annotated[
        int, Field(ge=1, description="side in pixels of the image that APM sees")
    ] = 448
    grid: Annotated[
        int, Field(ge=2, description="locations per side; a patch has image_size / grid pixels")
    ] = 32


class APM(Adapter[APMConfig]):
    """Asynchronous Perception Machine, several samples at once.

    The samples of a stack share kernel launches and nothing else: every sample has its own weights,
    drawn from its own generator, so its result is the same in any stack.
    """

    Config = APMConfig

    @override
    def inputs(self, task: Task) -> Inputs:
        return Inputs(pixels=(self.config.image_size,), draws=(self.draw(task),))

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.network = Network(self.sizes(task), task.device)

    def sizes(self, task: Task) -> Sizes:
        """Return the sizes of the network on a task's backbone.

        Raises:
            UserError: there is no network of these sizes.
        """
        config = self.config
        if config.image_size % config.grid:
            raise UserError(
                f"APM: image_size={config.image_size} is not a multiple of grid={config.grid}; "
                "set one of them to fit"
            )
        return Sizes(
            grid=config.grid,
            patch=config.image_size // config.grid,
            widths=config.widths,
            features=task.backbone.feature_dim,
            heads=config.heads if config.pooling == "attention" else 0,
        )

    def draw(self, task: Task) -> NormalDraw:
        """Return the draw of a sample's weights: standard normal, to be scaled."""
        return NormalDraw("weights", tuple(self.sizes(task).shapes().items()))

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        targets = self.task.encode_image(samples)  # (B, D)
        images = self.task.pixels(samples, self.config.image_size)  # (B, 3, S, S)
        stack = max(1, STACKED_PARAMETERS // self.network.sizes.parameters)
        draw, predictions = self.draw(self.task), []
        for start in range(0, len(samples), stack):
            part = slice(start, start + stack)
            # The drawn numbers are as large as the weights: nothing keeps them.
            weights = self.network.stack(self.task.draw(rngs[part], draw), self.config.init_std)
            pooled = fit(self.network, weights, images[part], targets[part], self.config)
            for features, target in zip(pooled[:, 1:], targets[part], strict=True):
                step_logits = self.task.logits(features)  # (steps, classes)
                # A network drawn at random predicts nothing; the model before adaptation is the
                # backbone itself.
                unadapted = self.task.logits(target)
                predictions.append(Prediction(step_logits[-1], step_logits, unadapted))
        return predictions


def fit(
    network: Network,
    weights: Weights,
    images: Float[Tensor, "batch 3 side side"],
    targets: Float[Tensor, "batch dim"],
    config: APMConfig,
) -> Float[Tensor, "batch steps_and_one dim"]:
    """Train the weights, in place, and return the pooled feature before and after every step.

    Args:
        network: the functions of the network.
        weights: the weights of a stack of samples.
        images: the images as the network sees them.
        targets: the backbone's features, not normalized.
        config: the number of steps and the learning rate.
    """
    return torch.stack(
        list(training_steps(network, weights, images, targets, config.steps, config.lr)), dim=1
    )


def training_steps(
    network: Network,
    weights: Weights,
    images: Float[Tensor, "batch 3 side side"],
    targets: Float[Tensor, "batch dim"],
    steps: int,
    lr: float,
) -> Iterator[Float[Tensor, "batch dim"]]:
    """Yield the pooled feature before every Adam step and after the last.

    The weights, trained in place, are those that gave the feature until the next one is asked for.

    Args:
        network: the functions of the network.
        weights: the weights of a stack of samples.
        images: the images as the network sees them.
        targets: the backbone's features, not normalized.
        steps: Adam steps.
        lr: the learning rate.
    """
    optimizers = adam(weights, lr)
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        pooled = network(weights, images)  # (B, D)
        yield pooled.detach()
        # The mean over features and the sum over samples keep the samples' gradients apart.
        (pooled - targets).square().mean(dim=1).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    with torch.no_grad():
        pooled = network(weights, images)
    yield pooled


def adam(weights: Weights, lr: float) -> list[torch.optim.Adam]:
    """Return Adam over all weights, with the fused kernel where it is exact.

    The fused kernel is ten times faster here. It rounds the numbers after the last full vector of a
    tensor in another way. Where a sample's weights are not a whole number of vectors, the result
    would depend on the sample's place in the stack; only the trigger convolution has such sizes.

    Args:
        weights: the weights of a stack of samples.
        lr: the learning rate.
    """
    whole = [weight for weight in weights.values() if weight[0].numel() % VECTOR == 0]
    odd = [weight for weight in weights.values() if weight[0].numel() % VECTOR]
    return [torch.optim.Adam(part, lr, fused=part is whole) for part in (whole, odd) if part]
