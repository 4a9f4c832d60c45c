"""FeatureCache: features of frozen backbones on disk, shared by methods and runs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ttt_bench.api.cost import Charge
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.inputs import FLOAT_BYTES, Inputs
from ttt_bench.api.precision import Precision
from ttt_bench.api.sample import SampleRNG
from ttt_bench.api.views import ViewSet
from ttt_bench.cache.store import Store, Stored
from ttt_bench.runs.environment import device_name


@dataclass(frozen=True)
class Feature:
    """The features of one sample.

    Attributes:
        values: `[dim]` of a plain image, `[views dim]` of a view set; float32, on the CPU.
        seconds: what computing them took, transform included.
    """

    values: Float[Tensor, "*views dim"]
    seconds: float


class FeatureCache:
    """The features of one key: of plain images, or of one view set."""

    def __init__(self, key: Mapping[str, Any], dim: int, limit: int | None = None) -> None:
        """Use the features of a key.

        Args:
            key: everything that a feature depends on besides its name, as plain JSON.
            dim: the size of a feature.
            limit: see `Store`.
        """
        self.store = Store(key, limit)
        self.dim = dim
        self.views = bool(key.get("view_set"))

    def read(self, names: Sequence[str]) -> dict[str, Feature]:
        """Return those of the named features that are kept and undamaged."""
        return {
            name: Feature(self._tensor(stored.value), stored.seconds)
            for name, stored in self.store.read(names).items()
        }

    def write(self, features: Mapping[str, Feature]) -> None:
        """Add features."""
        self.store.write(
            {
                name: Stored(feature.values.numpy().tobytes(), feature.seconds)
                for name, feature in features.items()
            }
        )

    def read_cost(self, samples: int) -> Charge | None:
        """Return the counted cost of computing some samples at once, None where it is not known."""
        name = _cost_name(samples)
        stored = self.store.read([name]).get(name)
        return None if stored is None else Charge(**json.loads(stored.value))

    def write_cost(self, samples: int, cost: Charge) -> None:
        """Keep the counted cost of computing some samples at once."""
        self.store.write({_cost_name(samples): Stored(json.dumps(asdict(cost)).encode(), 0.0)})

    def clear(self) -> None:
        """Forget the features of this key."""
        self.store.clear()

    def _tensor(self, value: bytes) -> Float[Tensor, "*views dim"]:
        flat = torch.from_numpy(np.frombuffer(value, np.float32).copy())
        return flat.unflatten(0, (-1, self.dim)) if self.views else flat  # (views, dim) or (dim)


def _cost_name(samples: int) -> str:
    """Return the name of the entry that holds what computing some samples at once costs."""
    return f"cost of {samples} samples"


def bytes_per_sample(inputs: Inputs, dim: int) -> int:
    """Return the bytes that the features of one sample take in the cache.

    Args:
        inputs: what the method asks for.
        dim: the size of a feature.
    """
    features = inputs.image_features + sum(view_set.count for view_set in inputs.view_features)
    return FLOAT_BYTES * dim * features


def image_name(image: Image.Image) -> str:
    """Return a hash of an image's pixels; an edited image has another one."""
    header = f"{image.mode}\0{image.size}\0".encode()
    return hashlib.blake2b(header + image.tobytes(), digest_size=16).hexdigest()


def views_name(image: str, rng: SampleRNG) -> str:
    """Return the name of a sample's views: they depend on the image and on its generators.

    Args:
        image: the image's name.
        rng: the random generators that draw the views.
    """
    return f"{image}/{rng.seed}/{rng.sample_id}"


def features_key(
    name: str,
    device: str,
    dataset: Dataset,
    card: Mapping[str, Any],
    precision: Precision = "fp32",
    view_set: ViewSet | None = None,
) -> dict[str, Any]:
    """Return what a feature depends on besides its image, as far as names and numbers can say it.

    Args:
        name: the backbone's name.
        device: the device that computes.
        dataset: the dataset of the images.
        card: the backbone's card, with the hash of its weights.
        precision: the precision of its forward pass.
        view_set: the views whose features these are, None for plain images.
    """
    return {
        "backbone": name,
        **card,
        "precision": precision,
        "view_set": None if view_set is None else view_set.card(),
        "dataset": dataset.identity,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": {
            package: metadata.version(package)
            for package in ("torch", "torchvision", "pillow", "numpy")
        },
    }
