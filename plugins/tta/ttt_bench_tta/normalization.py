"""Normalization layers: their statistics; and which weights and biases of a network learn."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from ttt_bench import UserError, WorkingCopy

LAYERS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)

# The last blocks and the last norm, by the names of torchvision and timm (SAR, appendix C.2). The
# last norm of CLIP's image tower is called ln_post.
LAST_LAYERS = ("layer4", "blocks.9", "blocks.10", "blocks.11", "norm.")
LAST_NORMS = ("norm", "ln_post")


def use_batch_statistics(model: WorkingCopy) -> None:
    """Let every BatchNorm2d layer normalize by the statistics of its batch, and keep none.

    Source: TENT (Wang et al. 2021, arXiv 2006.10726, section 3.2).
    """
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None


def train_normalization(model: WorkingCopy, without_last: bool = False) -> None:
    """Let weight and bias of the normalization layers learn, and nothing else.

    Args:
        model: the working copy.
        without_last: whether the last blocks and the last norm stay as they are, as in SAR.

    Raises:
        UserError: the model has no such layer.
    """
    model.requires_grad_(False)
    for name, layer in model.network.named_modules():
        if isinstance(layer, LAYERS) and not (without_last and _is_last(name)):
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_()
    if not trained(model):
        raise UserError(
            "this method trains BatchNorm, LayerNorm or GroupNorm layers, and the backbone has "
            "none that it may train; choose another --backbone"
        )


def train_weights_and_biases(model: WorkingCopy) -> None:
    """Let every weight and bias of the network learn, and nothing else."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[2] in ("weight", "bias"))


def _is_last(name: str) -> bool:
    # A tower of open_clip has a network of timm inside, a headed network its body.
    name = name.removeprefix("trunk.").removeprefix("body.")
    return name in LAST_NORMS or any(part in name for part in LAST_LAYERS)


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that learn."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the parameters that learn, by name."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


@torch.no_grad()
def put_back(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Set the parameters that learn to weights kept before, and forget their gradients.

    Args:
        model: the working copy.
        weights: what `weights_of` returned.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(weights[name])
            parameter.grad = None


class ChosenStatistics(nn.Module):
    """A BatchNorm2d layer that normalizes by statistics which a subclass chooses.

    The layer inside keeps mean 0 and variance 1: it only scales, shifts and, in timm's networks,
    activates.

    Attributes:
        layer: the layer.
        mean: the kept mean of every channel, at first the trained one.
        variance: the kept variance of every channel.
        eps: the layer's own small number.
    """

    mean: Float[Tensor, " channels"]
    variance: Float[Tensor, " channels"]

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__()
        assert layer.running_mean is not None
        assert layer.running_var is not None
        self.register_buffer("mean", layer.running_mean.clone())
        self.register_buffer("variance", layer.running_var.clone())
        self.eps = layer.eps
        layer.running_mean.zero_()
        layer.running_var.fill_(1)
        layer.eps = 0.0
        self.layer = layer
        self.eval()

    def statistics(
        self, maps: Float[Tensor, "batch channels rows columns"]
    ) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """Return the mean and the variance to normalize by."""
        raise NotImplementedError

    @override
    def train(self, mode: bool = True) -> "ChosenStatistics":
        super().train(mode)
        self.layer.eval()
        return self

    @override
    def forward(
        self, maps: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        mean, variance = self.statistics(maps)
        centred = maps - mean[:, None, None]  # (channels, 1, 1)
        return self.layer(centred / (variance[:, None, None] + self.eps).sqrt())


class PriorStatistics(ChosenStatistics):
    """A mix of the trained statistics with those of the batch, without a gradient.

    Attributes:
        prior: the weight of the trained statistics, as a number of images.
        weight: the weight of the batch's statistics; None for the number of its images.
        unbiased: whether the batch's variance is divided by n - 1 instead of n.
    """

    def __init__(
        self, layer: nn.BatchNorm2d, prior: float, weight: float | None, unbiased: bool
    ) -> None:
        super().__init__(layer)
        self.prior = prior
        self.weight = weight
        self.unbiased = unbiased

    @override
    @torch.no_grad()
    def statistics(
        self, maps: Float[Tensor, "batch channels rows columns"]
    ) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        weight = float(len(maps)) if self.weight is None else self.weight
        share = weight / (self.prior + weight)
        values = maps.transpose(0, 1).flatten(1)  # (b, c, h, w) -> (c, b*h*w)
        correction = int(self.unbiased and values.shape[1] > 1)
        variance, mean = torch.var_mean(values, dim=1, correction=correction)
        return (
            (1 - share) * self.mean + share * mean,
            (1 - share) * self.variance + share * variance,
        )


class FollowingStatistics(ChosenStatistics):
    """Statistics as BatchNorm keeps them: in train mode the batch's, which the kept ones follow.

    Attributes:
        rate: the share of a batch in the new kept statistics.
    """

    def __init__(self, layer: nn.BatchNorm2d, rate: float) -> None:
        super().__init__(layer)
        self.rate = rate

    @override
    def statistics(
        self, maps: Float[Tensor, "batch channels rows columns"]
    ) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        if not self.training:
            return self.mean, self.variance
        variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
        values = maps[:, 0].numel()
        # The kept variance is divided by n - 1; a single value has none.
        unbiased = variance.detach() * (values / max(values - 1, 1))
        self.mean = (1 - self.rate) * self.mean + self.rate * mean.detach()
        self.variance = (1 - self.rate) * self.variance + self.rate * unbiased
        return mean, variance


def follow_batches(model: nn.Module, follow: bool) -> None:
    """Let `FollowingStatistics` follow the batches, or stay; the rest remains in eval mode."""
    for layer in model.modules():
        if isinstance(layer, FollowingStatistics):
            layer.train(follow)


def replace_batch_norm(
    model: WorkingCopy, make: Callable[[nn.BatchNorm2d], ChosenStatistics]
) -> Sequence[ChosenStatistics]:
    """Put another layer around every BatchNorm2d layer, and return the new ones.

    Args:
        model: the working copy.
        make: makes a layer around one.
    """
    made: list[ChosenStatistics] = []
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            parent, _, child = name.rpartition(".")
            made.append(make(layer))
            setattr(model.get_submodule(parent), child, made[-1])
    return made
