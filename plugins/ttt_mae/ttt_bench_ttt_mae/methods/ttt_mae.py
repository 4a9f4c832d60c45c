"""TTT-MAE: reconstruct each image from its masked copies, then classify it.

Paper: Gandelsman, Sun, Chen and Efros 2022, Test-Time Training with Masked Autoencoders (NeurIPS
    2022, arXiv 2209.07522), sections 3 and 4.
Code: yossigandelsman/test_time_training_mae (no licence file; it builds on facebookresearch/mae, CC
    BY-NC 4.0).
Kind: sample. Encoder and mask token learn, decoder and head stay; every image starts from the
    trained weights and a new optimizer.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG, Task
from ttt_bench_ttt_mae.head_adapter import FrozenBackboneAdapter, HeadConfig, classify
from ttt_bench_ttt_mae.model import MASK_RATIO, Head, MAENetwork

MakeOptimizer = Callable[[Sequence[Tensor]], torch.optim.Optimizer]


class TTTMAEConfig(HeadConfig):
    """The paper's values for ImageNet-C (section 4)."""

    steps: int = Field(20, ge=1, le=100_000, description="optimizer steps per image")
    copies: int = Field(128, ge=1, le=100_000, description="masked copies of the image in a step")
    mask_ratio: float = Field(MASK_RATIO, gt=0, lt=1, description="share of the patches to hide")
    optimizer: Literal["sgd", "adamw"] = Field(
        "sgd", description="optimizer: sgd, or adamw with betas 0.9 and 0.95"
    )
    lr: float = Field(5e-3, gt=0, description="learning rate; the paper: 1e-2 for every 256 copies")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")


def make_optimizer(config: TTTMAEConfig) -> MakeOptimizer:
    """Return the function that makes the configured optimizer for an image's parameters."""
    if config.optimizer == "adamw":
        return partial(torch.optim.AdamW, lr=config.lr, betas=(0.9, 0.95))
    # The first step is the same with any momentum, and a single one needs no memory for it.
    momentum = config.momentum if config.steps > 1 else 0.0
    return partial(torch.optim.SGD, lr=config.lr, momentum=momentum)


def trainable(model: MAENetwork) -> dict[str, nn.Parameter]:
    """Return the parameters that test-time training changes: encoder and mask token."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if not name.startswith("decoder_") and name != "pos_embed"
    }


def working_copy(model: MAENetwork) -> MAENetwork:
    """Return a copy of a model whose encoder and mask token ask for gradients."""
    copied = copy.deepcopy(model).requires_grad_(False)
    for parameter in trainable(copied).values():
        parameter.requires_grad_()
    return copied


@contextmanager
def put_back(working: MAENetwork, original: MAENetwork) -> Iterator[None]:
    """Undo at the end of a `with` block what a working copy has learned inside it.

    Args:
        working: the copy.
        original: the model it was copied from.
    """
    try:
        yield
    finally:
        pairs = zip(trainable(working).values(), trainable(original).values(), strict=True)
        with torch.no_grad():
            for learned, start in pairs:
                learned.copy_(start)
                learned.grad = None


def tune(
    model: MAENetwork,
    head: Head,
    image: Float[Tensor, "1 3 side side"],
    noises: Iterable[Float[Tensor, "copies patches"]],
    make_optimizer: MakeOptimizer,
    mask_ratio: float = MASK_RATIO,
) -> tuple[Float[Tensor, " steps"], Float[Tensor, "steps_and_one outputs"]]:
    """Reconstruct one image from its masked copies, and classify it after every step.

    Args:
        model: a working copy of the autoencoder, which is trained in place.
        head: the head on its tokens.
        image: the image.
        noises: for every step the uniform noise that decides which patches each copy hides.
        make_optimizer: makes the optimizer of the parameters that learn.
        mask_ratio: share of the patches to hide.

    Returns:
        The loss of every step, and the head's outputs before the first step and after each.
    """
    optimizer = make_optimizer(list(trainable(model).values()))
    losses, trajectory = [], [classify(model, head, image)]
    for noise in noises:
        loss = model.reconstruction_loss(image, noise, mask_ratio)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        trajectory.append(classify(model, head, image))
    return torch.stack(losses), torch.cat(trajectory)  # (steps), (steps + 1, outputs)


class TTTMAE(FrozenBackboneAdapter[TTTMAEConfig]):
    """`ttt-mae`: test-time training by reconstruction, from the trained probe.

    Attributes:
        working: the copy of the autoencoder that learns; equal to it between images.
    """

    Config = TTTMAEConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.working = working_copy(self.model)

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        predictions, ratio = [], self.config.mask_ratio
        make = make_optimizer(self.config)
        for image, rng in zip(self.task.pixels(samples), rngs, strict=True):
            with put_back(self.working, self.model), self.task.forward_pass():
                noises = self.draw(rng)
                _, outputs = tune(self.working, self.head, image[None], noises, make, ratio)
            scores = outputs[:, self.outputs]  # (steps + 1, classes)
            predictions.append(Prediction(scores[-1], scores[1:], unadapted_logits=scores[0]))
        return predictions

    def draw(self, rng: SampleRNG) -> Iterator[Float[Tensor, "copies patches"]]:
        """Yield the noise of every step."""
        generator, patches = rng.torch("masks"), self.model.sizes.grid**2
        for _ in range(self.config.steps):
            noise = torch.rand(self.config.copies, patches, generator=generator)
            yield noise.to(self.task.device)
