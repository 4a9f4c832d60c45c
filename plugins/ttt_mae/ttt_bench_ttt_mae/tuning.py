"""TTT-MAE's algorithm box: one image, its masks, and a model that is thrown away afterwards."""

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ttt_bench_ttt_mae.model import MASK_RATIO, Head, MAENetwork

MakeOptimizer = Callable[[Sequence[Tensor]], torch.optim.Optimizer]


def learned(model: MAENetwork) -> dict[str, nn.Parameter]:
    """What test-time training changes: the encoder and the mask token, not the decoder."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if not name.startswith("decoder_") and name != "pos_embed"
    }


def tune(
    model: MAENetwork,
    head: Head,
    image: Float[Tensor, "1 3 side side"],
    masks: Iterable[Float[Tensor, "copies patches"]],
    optimizer: MakeOptimizer,
    mask_ratio: float = MASK_RATIO,
) -> tuple[Float[Tensor, " steps"], Float[Tensor, "steps_and_one classes"]]:
    """Reconstruct one image from its masked copies, a step for each draw of masks.

    The given model and head stay as they are: a copy of the model learns.

    Args:
        masks: for every step the uniform noise that decides what each copy shows.
        optimizer: makes a new one for the parameters that learn.

    Returns:
        The loss at each step, and the logits before the first step and after each.

    Source: Gandelsman et al. 2022, arXiv 2209.07522, section 4.
    """
    model = copy.deepcopy(model).requires_grad_(False)
    parameters = [parameter.requires_grad_() for parameter in learned(model).values()]
    descent = optimizer(parameters)
    losses, trajectory = [], [classify(model, head, image)]
    for noise in masks:
        loss = model.reconstruction_loss(image, noise, mask_ratio)
        descent.zero_grad()
        loss.backward()
        descent.step()
        losses.append(loss.detach())
        trajectory.append(classify(model, head, image))
    return torch.stack(losses), torch.cat(trajectory)


@torch.no_grad()
def classify(
    model: MAENetwork, head: Head, images: Float[Tensor, "batch 3 side side"]
) -> Float[Tensor, "batch classes"]:
    """The head's logits from whole images."""
    return head(model(images))
