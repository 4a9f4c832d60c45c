"""LayerNorms: the weights and biases of an image tower's LayerNorm layers, all that learns."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ttt_bench import UserError, WorkingCopy


class LayerNorms:
    """The LayerNorm layers of a working copy.

    Attributes:
        parameters: their weights and biases, all of the copy that asks for gradients.
    """

    def __init__(self, model: WorkingCopy) -> None:
        """Let the LayerNorm layers of a working copy learn.

        Raises:
            UserError: the copy has none.
        """
        model.requires_grad_(False)
        layers = [layer for layer in model.network.modules() if isinstance(layer, nn.LayerNorm)]
        self.parameters = [p for layer in layers for p in layer.parameters(recurse=False)]
        if not self.parameters:
            raise UserError(
                "this method trains the LayerNorm layers of the image tower, and the backbone has "
                "none; choose another --backbone"
            )
        for parameter in self.parameters:
            parameter.requires_grad_()

    def values(self) -> list[Tensor]:
        """Return copies of the weights and biases."""
        return [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def put(self, values: Sequence[Tensor]) -> None:
        """Set the weights and biases, and forget their gradients.

        Args:
            values: one tensor for each parameter, as `values` returns them.
        """
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
            parameter.grad = None


def mean_of(records: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return the mean of several records of weights and biases, parameter by parameter."""
    return [torch.stack(values).mean(dim=0) for values in zip(*records, strict=True)]
