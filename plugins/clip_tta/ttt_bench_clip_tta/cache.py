"""ClassCache: a few items of every class, as tensors, kept along a stream.

Sizes in comments: C classes, K places of a class, L places up to the last filled one, D the size of
a feature.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class ClassCache:
    """A cache with the same number of places for every class.

    The items of a class fill its places from the first on. In the tensors places come before
    classes, so the places that no class has filled are at the end and are not read.

    Attributes:
        entropies: the entropy of each item's prediction, in nats; infinity in an empty place.
        values: everything else that is kept of an item, by name; zeros in an empty place.
    """

    def __init__(self, classes: int, capacity: int, device: torch.device, **sizes: int) -> None:
        """Make an empty cache.

        Args:
            classes: C, the number of classes.
            capacity: K, the number of items that a class can have.
            device: the device to keep it on.
            sizes: the size of each value of an item; one is called `feature`.
        """
        self.entropies = torch.full((capacity, classes), torch.inf, device=device)
        self.values = {
            name: torch.zeros(capacity, classes, size, device=device)
            for name, size in sizes.items()
        }

    @property
    def features(self) -> Float[Tensor, "places classes dim"]:
        """The features of the items."""
        return self.values["feature"]

    @property
    def filled(self) -> Bool[Tensor, "places classes"]:
        """Which places hold an item."""
        return self.entropies.isfinite()

    def add_certain(self, label: int, entropy: float, **values: Float[Tensor, " _"]) -> bool:
        """Keep an item if it is among the most certain of its class, and say whether it is.

        The items of a class stay in the order of their entropies, older before newer where they are
        equal. A full class gives up its last item, and only for one of strictly lower entropy.

        Args:
            label: its class.
            entropy: the entropy of its prediction, in nats.
            values: the other values of the item.
        """
        place = int((self.entropies[:, label] <= entropy).sum())
        if place == len(self.entropies):
            return False
        for kept in (self.entropies, *self.values.values()):
            kept[place + 1 :, label] = kept[place:-1, label].clone()
        self._put(place, label, entropy, values)
        return True

    def add_newest(self, label: int, entropy: float, **values: Float[Tensor, " _"]) -> None:
        """Keep an item, whatever its entropy; a full class gives up its oldest one.

        Args:
            label: its class.
            entropy: the entropy of its prediction, in nats.
            values: the other values of the item.
        """
        place = int(self.filled[:, label].sum())
        if place == len(self.entropies):
            place -= 1
            for kept in (self.entropies, *self.values.values()):
                kept[:-1, label] = kept[1:, label].clone()
        self._put(place, label, entropy, values)

    def affinities(
        self, feature: Float[Tensor, " dim"], beta: float
    ) -> Float[Tensor, "longest classes"]:
        """Return the affinity of a feature to every item, 0 in an empty place.

        Args:
            feature: the feature.
            beta: the sharpness, see `affinity`.
        """
        filled = self.filled
        filled = filled[: int(filled.any(dim=1).sum())]  # (K, C) -> (L, C)
        items = self.features[: len(filled)].flatten(0, 1)  # (K, C, D) -> (L*C, D)
        cosines = (items @ feature).view(filled.shape)  # (L*C) -> (L, C)
        return affinity(cosines, beta) * filled

    def _put(self, place: int, label: int, entropy: float, values: dict[str, Tensor]) -> None:
        self.entropies[place, label] = entropy
        for name, value in values.items():
            self.values[name][place, label] = value


def affinity(cosines: Float[Tensor, "*any"], beta: float) -> Float[Tensor, "*any"]:
    """Return exp(-beta (1 - cosine)): the larger beta, the less a distant item counts.

    Source: Tip-Adapter (Zhang et al. 2022, arXiv 2207.09519, section 3.1).
    """
    return torch.exp(beta * cosines - beta)
