"""Classifiers whose last layer is linear: the feature before it, and the layer as the head."""

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.transforms import Compose
from typing_extensions import override

from ttt_bench.api.backbone import Classifier, TrainableClassifier, Transform
from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.working_copy import WorkingCopy


class HeadedNetwork(nn.Module):
    """A classifier in two parts.

    Attributes:
        body: the network up to its last layer.
        head: the last layer.
    """

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    @override
    def forward(self, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch outputs"]:
        return self.head(self.body(pixels))


def head_name(model: nn.Module) -> str | None:
    """Return the name of a network's last linear layer, None where it has none."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def split_head(name: str, model: nn.Module) -> HeadedNetwork:
    """Take the last linear layer off a network.

    Args:
        name: the backbone's name, for messages.
        model: the network, which loses the layer.

    Raises:
        UserError: the network has no such layer.
    """
    layer = head_name(model)
    if layer is None:
        raise UserError(f"{name}: its last layer is not linear; take another model")
    parent, _, attribute = layer.rpartition(".")
    head = cast(nn.Linear, model.get_submodule(layer))
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    return HeadedNetwork(model, head)


class LinearHeadBackbone(Classifier, TrainableClassifier):
    """A classifier whose last layer is linear; its image feature is what that layer gets.

    Attributes:
        network: the model in its two parts.
    """

    takes_weights = True
    name: str
    network: HeadedNetwork
    # What is on the card besides the weights' hash and the transform.
    _recorded: Mapping[str, Any] = MappingProxyType({})

    def _adopt(self, model: nn.Module, device: torch.device, image_size: int) -> None:
        """Take a built model over; a subclass has set `name` before.

        Raises:
            UserError: the model's logits are not a linear layer of a feature.
        """
        model = model.to(device).eval().requires_grad_(False)
        noise = torch.rand(
            1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)
        ).to(device)
        try:
            with torch.no_grad():
                expected = model(noise)
                self.model = self.network = split_head(self.name, model)
                feature = self.network.body(noise)
                fits = feature.ndim == 2 and torch.allclose(
                    self.network.head(feature), expected, atol=1e-4
                )
        except UserError:
            raise
        # A network of another kind can refuse the image or the feature in any way.
        except Exception as error:
            raise UserError(
                f"{self.name}: cannot classify an image of {image_size} pixels "
                f"({first_line(error)}); take another model"
            ) from error
        if not fits:
            raise UserError(
                f"{self.name}: its logits are not its last linear layer on one feature; take "
                "another model"
            )
        self.device = device
        self.image_size = image_size
        self.feature_dim = feature.shape[1]
        self.num_classes = expected.shape[1]

    @abstractmethod
    def _steps(self, size: int) -> list[Any]:
        """Return the steps of the transform to an input of `size` pixels."""

    @abstractmethod
    def _transform_card(self) -> dict[str, Any]:
        """Return what the card records of the transform."""

    @override
    def make_transform(self, size: int) -> Transform:
        return cast(Transform, Compose(self._steps(size)))

    @override
    def encode_image(
        self, pixels: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch dim"]:
        return _body(self.network, pixels)

    @override
    def head(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch outputs"]:
        return self.network.head(features)

    @override
    def working_copy(self, classes: ClassSet, templates: Sequence[str]) -> WorkingCopy:
        columns = torch.tensor(self._columns(classes), device=self.device)
        return WorkingCopy(copy.deepcopy(self.network), _body, partial(_classify, columns))

    @override
    def class_weights(
        self, classes: ClassSet, templates: Sequence[str]
    ) -> Float[Tensor, "classes dim"]:
        return self.network.head.weight.detach()[self._columns(classes)]

    def _columns(self, classes: ClassSet) -> list[int]:
        return classes.head_outputs("the backbone's", self.num_classes)

    @override
    def card(self) -> dict[str, Any]:
        return {
            "weights": self.weights_hash(),
            **self._recorded,
            "dtype": str(self.network.head.weight.dtype).removeprefix("torch."),
            "transform": self._transform_card(),
        }


def _body(model: nn.Module, pixels: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "b d"]:
    return cast(HeadedNetwork, model).body(pixels)


def _classify(
    columns: Int[Tensor, " classes"], model: nn.Module, features: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch classes"]:
    return cast(HeadedNetwork, model).head(features)[:, columns]
