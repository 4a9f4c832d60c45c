"""Reduction of features to shades or colours, by t-SNE or PCA to one or three dimensions."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

Method = Literal["tsne", "pca"]
Features = Float[np.ndarray, "locations dim"]

METHOD_NAMES: dict[Method, str] = {"tsne": "t-SNE", "pca": "PCA"}
# scikit-learn's own scale of a start from principal components, small against t-SNE's result.
START_SCALE = 1e-4
ITERATIONS = 300
PERPLEXITY = 30


def reduce_fields(
    fields: Sequence[Features], dimensions: int, method: Method, seed: int = 0, axes_of: int = -1
) -> list[Float[np.ndarray, "locations dimensions"]]:
    """Reduce each field to few dimensions, every dimension stretched to [0, 1].

    PCA takes the axes of one field for all. t-SNE is fitted to every field anew, each from the
    result of the one before it (the first from its principal components), so that colours stay
    comparable from frame to frame. In t-SNE's result near means alike, and distances say little.

    Args:
        fields: the features of every location, of one network at several moments.
        dimensions: of the result, 1 for shades and 3 for colours.
        method: t-SNE or PCA.
        seed: seed of the method's random draws.
        axes_of: number of the field whose axes PCA takes.
    """
    if method == "pca":
        axes = PCA(dimensions, random_state=seed).fit(fields[axes_of])
        return [_stretch(axes.transform(field)) for field in fields]
    reduced: list[np.ndarray] = []
    for field in fields:
        before = reduced[-1] if reduced else PCA(dimensions, random_state=seed).fit_transform(field)
        # A field of equal features has no first axis.
        start = (before - before.mean(0)) / max(before[:, 0].std(), 1e-12) * START_SCALE
        tsne = TSNE(
            dimensions,
            perplexity=min(PERPLEXITY, (len(field) - 1) / 3),
            init=start.astype(np.float32),
            max_iter=ITERATIONS,
            random_state=seed,
        )
        reduced.append(tsne.fit_transform(field))
    return [_stretch(values) for values in reduced]


class PrincipalColours:
    """Three principal axes of some features, as red, green and blue.

    The scale covers the features that the axes were fitted to; values beyond it are clipped.

    Attributes:
        explained: the share of those features' variance along the three axes, 0 to 1.
    """

    def __init__(self, features: Features) -> None:
        self._axes = PCA(3, random_state=0).fit(features)
        projected = self._axes.transform(features)
        self._low, self._high = np.percentile(projected, (1, 99), axis=0)
        self.explained = float(self._axes.explained_variance_ratio_.sum())

    def __call__(self, features: Features) -> Float[np.ndarray, "locations 3"]:
        """Return the colour of each feature, in [0, 1]."""
        spread = np.maximum(self._high - self._low, 1e-12)
        return np.clip((self._axes.transform(features) - self._low) / spread, 0, 1)


def _stretch(values: np.ndarray) -> np.ndarray:
    """Stretch every column to [0, 1]."""
    low, high = values.min(0), values.max(0)
    return (values - low) / np.maximum(high - low, 1e-12)
