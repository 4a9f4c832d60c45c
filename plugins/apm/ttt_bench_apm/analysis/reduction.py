"""Features as shades or colours: t-SNE or PCA to one or three dimensions."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

Method = Literal["tsne", "pca"]
Field = Float[np.ndarray, "locations dim"]

# As scikit-learn's own start from a principal component: small against what t-SNE will spread.
START = 1e-4
ITERATIONS = 300
PERPLEXITY = 30


def reduce_fields(
    fields: Sequence[Field], dimensions: int, method: Method, seed: int = 0, axes_of: int = -1
) -> list[Float[np.ndarray, "locations dimensions"]]:
    """Each field in so few dimensions, every dimension stretched to [0, 1].

    PCA's axes are one field's (number `axes_of`), for all. t-SNE is fitted to every field anew,
    each from where the one before it ended (the first from its principal components), so that
    colours stay comparable from frame to frame; near means alike, and distances say little.
    """
    if method == "pca":
        axes = PCA(dimensions, random_state=seed).fit(fields[axes_of])
        return [_stretch(axes.transform(field)) for field in fields]
    reduced: list[np.ndarray] = []
    for field in fields:
        before = reduced[-1] if reduced else PCA(dimensions, random_state=seed).fit_transform(field)
        # A field of equal features has no first axis.
        start = (before - before.mean(0)) / max(before[:, 0].std(), 1e-12) * START
        tsne = TSNE(
            dimensions,
            perplexity=min(PERPLEXITY, (len(field) - 1) / 3),
            init=start.astype(np.float32),
            max_iter=ITERATIONS,
            random_state=seed,
        )
        reduced.append(tsne.fit_transform(field))
    return [_stretch(one) for one in reduced]


class Colours:
    """Three principal axes of some features, as red, green and blue, for others too.

    The scale runs over what the axes were fitted to; what lies beyond is clipped.
    """

    def __init__(self, features: Field) -> None:
        self._axes = PCA(3, random_state=0).fit(features)
        projected = self._axes.transform(features)
        self._low, self._high = np.percentile(projected, (1, 99), axis=0)
        self.explained = float(self._axes.explained_variance_ratio_.sum())

    def __call__(self, features: Field) -> Float[np.ndarray, "locations 3"]:
        """The colour of each feature, in [0, 1]."""
        spread = np.maximum(self._high - self._low, 1e-12)
        return np.clip((self._axes.transform(features) - self._low) / spread, 0, 1)


def _stretch(values: np.ndarray) -> np.ndarray:
    low, high = values.min(0), values.max(0)
    return (values - low) / np.maximum(high - low, 1e-12)
