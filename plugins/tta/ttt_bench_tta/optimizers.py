"""Optimizers of the parameters that learn, and their learning rates."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ttt_bench import AdapterConfig
from ttt_bench_tta.normalization import trained

# The batch of the papers' learning rates, and the batch below which SAR's release lowers them.
PAPER_BATCH, SMALL_BATCH = 64, 32


class TrainingConfig(AdapterConfig):
    """The fields of a method that trains by gradient descent, with the values for ResNet-50."""

    batch_size: int = Field(64, ge=1, description="samples in a batch")
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="optimizer")
    lr: float = Field(
        2.5e-4, gt=0, description="learning rate at 64 samples in a batch; 1e-3 for ViT-B/16"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")


def make_optimizer(
    model: nn.Module, config: TrainingConfig, nesterov: bool = False, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Return the configured optimizer of the parameters that learn.

    Args:
        model: the working copy.
        config: the method's configuration.
        nesterov: whether SGD has Nesterov's momentum.
        weight_decay: the weight decay.
    """
    parameters = trained(model)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, config.lr, (0.9, 0.999), weight_decay=weight_decay)
    return torch.optim.SGD(
        parameters, config.lr, config.momentum, weight_decay=weight_decay, nesterov=nesterov
    )


def make_scaled_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the configured optimizer with the rate for its size of batch, see `scaled_rate`."""
    lr = scaled_rate(config.lr, config.batch_size, model)
    return make_optimizer(model, config.model_copy(update={"lr": lr}))


def scaled_rate(lr: float, batch_size: int, model: nn.Module) -> float:
    """Return the learning rate for a size of batch, as SAR's release computes it.

    A network without BatchNorm2d and GroupNorm layers, a transformer, gets a rate that is
    proportional to the batch. Another one keeps its rate down to 32 samples, below which it is
    proportional too, and gets twice that rate at batches of one sample.

    Args:
        lr: the rate at 64 samples in a batch.
        batch_size: samples in a batch.
        model: the working copy.

    Source: SAR (Niu et al. 2023, arXiv 2302.12400), mr-eggplant/SAR, main.py.
    """
    if not any(isinstance(layer, nn.BatchNorm2d | nn.GroupNorm) for layer in model.modules()):
        return lr * batch_size / PAPER_BATCH
    if batch_size >= SMALL_BATCH:
        return lr
    return lr * batch_size / SMALL_BATCH * (2 if batch_size == 1 else 1)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take one step down a loss, and keep no gradient."""
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
