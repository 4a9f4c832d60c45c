"""APM's test-time training: one network per sample, fitted to one feature, used, thrown away."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import Adapter, AdapterConfig, Prediction, Sample, SampleRNG, Task, UserError
from ttt_bench_apm.methods.apm_network import Network, Sizes, Weights

# Parameters in one stack. Small networks gain from company (fewer, larger kernels); one network of
# the released sizes fills a machine by itself, and its activations leave the cache in a stack.
STACKED_PARAMETERS = 2**24
# Float32 numbers in the widest vector registers.
VECTOR = 16

Width = Annotated[int, Field(gt=0)]


class APMConfig(AdapterConfig):
    """The released script's values (`single_token_segmentation`)."""

    steps: int = Field(20, ge=1, description="Adam steps per sample")
    lr: float = Field(1e-4, gt=0, description="Adam's learning rate")
    init_std: float = Field(0.01, gt=0, description="of the normal draw of every weight")
    pooling: Literal["attention", "mean"] = Field(
        "attention", description="attention (the release) or mean (the paper's figure)"
    )
    heads: int = Field(8, ge=1, description="of the pooling attention")
    widths: tuple[Width, Width, Width] = Field((4096, 2048, 1024), description="hidden layers")
    image_size: int = Field(448, ge=1, description="side in pixels of the image APM sees")
    grid: int = Field(32, ge=2, description="locations per side; patch = image_size / grid")


class APM(Adapter[APMConfig]):
    """Asynchronous Perception Machine (arXiv 2410.20535, section 4), many samples at once.

    Every sample has its own weights, drawn from its own stream; stacked samples share nothing but
    the kernel launches, so a sample's result is the same in any stack.
    """

    Config = APMConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        config, features = self.config, task.backbone.feature_dim
        if config.image_size % config.grid:
            raise UserError(
                f"apm: image_size={config.image_size} is not a multiple of grid={config.grid}"
            )
        if config.grid % 2:
            raise UserError(f"apm: grid={config.grid} is odd; its position code wants an even one")
        heads = config.heads if config.pooling == "attention" else 0
        if features % 4 or (heads and features % heads):
            raise UserError(
                f"apm: the backbone's features have size {features}, which is not a multiple of 4 "
                f"and of heads={config.heads}"
            )
        patch = config.image_size // config.grid
        self.network = Network(
            Sizes(config.grid, patch, config.widths, features, heads), task.device
        )

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        targets = self.task.encode_image(samples)
        images = self.task.pixels(samples, self.config.image_size)
        parameters = sum(torch.Size(s).numel() for s in self.network.sizes.shapes().values())
        stack = max(1, STACKED_PARAMETERS // parameters)
        predictions = []
        for at in range(0, len(samples), stack):
            part = slice(at, at + stack)
            generators = [rng.torch("weights") for rng in rngs[part]]
            weights = self.network.draw(generators, self.config.init_std, self.task.device)
            trajectory = fit(self.network, weights, images[part], targets[part], self.config)
            for features, target in zip(trajectory[:, 1:], targets[part], strict=True):
                steps = self.task.logits(features)
                # A network drawn at random says nothing yet: what is adapted is the teacher.
                teacher = self.task.logits(target)
                predictions.append(Prediction(steps[-1], steps, unadapted_logits=teacher))
        return predictions


def fit(
    network: Network,
    weights: Weights,
    images: Float[Tensor, "batch 3 side side"],
    targets: Float[Tensor, "batch dim"],
    config: APMConfig,
) -> Float[Tensor, "batch steps_and_one dim"]:
    """Fit the weights, in place, to the teacher's raw features by mean squared error.

    Returns:
        The pooled feature before the first step and after each.
    """
    optimizers = adam(weights, config.lr)
    trajectory = []
    for _ in range(config.steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        pooled = network(weights, images)
        trajectory.append(pooled.detach())
        # The mean over features, the sum over samples: no sample feels another.
        (pooled - targets).square().mean(dim=1).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    with torch.no_grad():
        trajectory.append(network(weights, images))
    return torch.stack(trajectory, dim=1)


def adam(weights: Weights, lr: float) -> list[torch.optim.Adam]:
    """Adam on every weight, with the fused kernel (ten times faster here) where it is exact.

    That kernel rounds what is left after the last full vector of a tensor in another way, so where
    a sample's share is no whole number of vectors its result would depend on its place in the
    stack. Only the trigger convolution has such odd sizes.
    """
    whole = [weight for weight in weights.values() if weight[0].numel() % VECTOR == 0]
    odd = [weight for weight in weights.values() if weight[0].numel() % VECTOR]
    return [torch.optim.Adam(part, lr, fused=part is whole) for part in (whole, odd) if part]
