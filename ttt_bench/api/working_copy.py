"""WorkingCopy: a classifier that a method may train, apart from the backbone that all share."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

Encode = Callable[[nn.Module, Float[Tensor, "batch 3 side side"]], Float[Tensor, "batch dim"]]
Classify = Callable[[nn.Module, Float[Tensor, "batch dim"]], Float[Tensor, "batch classes"]]


class WorkingCopy(nn.Module):
    """A copy of a backbone's network and classifier: pixels in, logits out.

    It begins in eval mode, and no parameter asks for gradients. `copy.deepcopy` makes another one.

    Attributes:
        network: the image network; its modules and parameters have the names of the backbone's.
    """

    def __init__(self, network: nn.Module, encode: Encode, classify: Classify) -> None:
        """Take a copied network over.

        Args:
            network: the network, a copy already.
            encode: features of pixels, given the network.
            classify: logits of features, given the network.
        """
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self._encode = encode
        self._classify = classify

    def features(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch dim"]:
        """Return image features, before any normalization."""
        return self._encode(self.network, pixels)

    def classify(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        """Return the logits of features, in float32."""
        return self._classify(self.network, features).float()

    @override
    def forward(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch classes"]:
        return self.classify(self.features(pixels))
