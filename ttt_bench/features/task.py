"""CachingTask: a task whose features may come from a cache and whose pixels from loaders.

A result is the same as without them, and so is the reported time: reused work is charged the
seconds that it took when it was done. Example: a cached feature took 5 ms to compute and 1 ms to
read; the clock around the method has seen 1 ms, and `pop_saved_seconds` returns the other 4 ms.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from typing_extensions import override

from ttt_bench.api import cost
from ttt_bench.api.backbone import Backbone
from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.sample import Sample
from ttt_bench.api.task import Task
from ttt_bench.features.cache import Feature, FeatureCache, image_name
from ttt_bench.features.guard import BackboneGuard


@dataclass(frozen=True, slots=True, eq=False)
class PrefetchedSample(Sample):
    """A sample that a loader has transformed already.

    Attributes:
        pixels: `[3 side side]` and the seconds they took, by the size that `Task.pixels` is asked
            for. Not an argument, so that a copy with another image comes without them.
        digest: of the image as it was decoded, "" for a copy with another image.
    """

    pixels: dict[int | None, tuple[Tensor, float]] = field(
        init=False, default_factory=dict[int | None, tuple[Tensor, float]], repr=False
    )
    digest: str = field(init=False, default="", repr=False)

    @classmethod
    def of(cls, name: str, image: Image.Image, digest: str) -> "PrefetchedSample":
        """Make a sample of a decoded image."""
        sample = cls(name, image)
        object.__setattr__(sample, "digest", digest)
        return sample


class CachingTask(Task):
    """A task with a feature cache and prefetched pixels.

    What the engine keeps here is private, since a method's state is everything public.
    """

    def __init__(self, backbone: Backbone, classes: ClassSet, augmix: bool = False) -> None:
        super().__init__(backbone, classes, augmix)
        self._cache: FeatureCache | None = None
        self._requested_sizes: set[int | None] = set()
        self._guard = BackboneGuard(self.backbone.model)
        self._saved_seconds = 0.0
        self._cache_verified = False

    def use_cache(self, cache: FeatureCache) -> None:
        """Take features from a cache from now on, and keep new ones in it."""
        self._cache = cache

    @contextmanager
    def without_cache(self) -> Iterator[None]:
        """Compute every feature inside the `with` block."""
        cache, self._cache = self._cache, None
        try:
            yield
        finally:
            self._cache = cache

    def clear_cache(self) -> None:
        """Forget the cached features of this backbone and dataset."""
        if self._cache is not None:
            self._cache.clear()

    def requested_sizes(self) -> tuple[int | None, ...]:
        """Return the sizes that `pixels` has been asked for."""
        return tuple(self._requested_sizes)

    def forget_sizes(self) -> None:
        """Forget the sizes that `pixels` has been asked for."""
        self._requested_sizes.clear()

    def pop_saved_seconds(self) -> float:
        """Return and reset the seconds that reused inputs would have cost."""
        saved, self._saved_seconds = self._saved_seconds, 0.0
        return saved

    @override
    def pixels(
        self, samples: Sequence[Sample], size: int | None = None
    ) -> Float[Tensor, "batch 3 side side"]:
        self._requested_sizes.add(size)
        images = []
        for sample in samples:
            if isinstance(sample, PrefetchedSample) and size in sample.pixels:
                image, seconds = sample.pixels[size]
                self._saved_seconds += seconds
            else:
                image = self.backbone.preprocess(sample.image, size)
            images.append(image)
        return torch.stack(images).to(self.device)

    @override
    @torch.no_grad()
    def encode_image(self, samples: Sequence[Sample]) -> Float[Tensor, "batch dim"]:
        started, computing, cache = self._clock(), 0.0, self._cache
        # Another model or another precision than the cache's key says.
        autocast = torch.is_autocast_enabled(self.device.type)
        if cache is None or autocast or not self._guard.unchanged():
            return super().encode_image(samples)
        names = [image_name(sample.image) for sample in samples]
        known = self._known_features(cache, names, samples)
        reused = sum(known[name].seconds for name in names if name in known)
        missing = [row for row, name in enumerate(names) if name not in known]
        if missing:
            begun, saved = self._clock(), self._saved_seconds
            features = super().encode_image([samples[row] for row in missing])
            computing = self._clock() - begun
            seconds = (computing + self._saved_seconds - saved) / len(missing)
            computed = {
                names[row]: Feature(values, seconds)
                for row, values in zip(missing, features.cpu(), strict=True)
            }
            cache.write(computed)
            known |= computed
        result = torch.stack([known[name].values for name in names]).to(self.device)
        self._saved_seconds += reused + computing - (self._clock() - started)
        return result

    def _known_features(
        self, cache: FeatureCache, names: Sequence[str], samples: Sequence[Sample]
    ) -> dict[str, Feature]:
        """Read features from the cache; the first one of a run is computed again and compared.

        A key cannot hold everything that rounding depends on, nor a change of somebody's code.
        """
        known = cache.read(names)
        row = next((row for row, name in enumerate(names) if name in known), None)
        if row is None or self._cache_verified:
            return known
        pixels = super().pixels([samples[row]])
        fresh = self.batch_invariant(self.backbone.encode_image, pixels)[0].cpu()
        self._cache_verified = torch.equal(fresh, known[names[row]].values)
        if self._cache_verified:
            return known
        cache.clear()
        return {}

    def _clock(self) -> float:
        cost.synchronize(self.device)
        return time.perf_counter()
