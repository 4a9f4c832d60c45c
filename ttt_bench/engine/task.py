"""The task as the engine hands it out: the same answers, sooner, and the same time booked."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from ttt_bench import cost
from ttt_bench.adapter import Sample, Task
from ttt_bench.engine.watch import Watch
from ttt_bench.feature_cache import Feature, FeatureCache, image_name


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSample(Sample):
    """A sample that a decoding process has transformed already.

    Attributes:
        prepared: pixels `[3 side side]` and the seconds they took, by the size that `Task.pixels`
            is asked for. Not an argument, so that a copy with another image comes without them.
    """

    prepared: dict[int | None, tuple[Tensor, float]] = field(
        init=False, default_factory=dict[int | None, tuple[Tensor, float]], repr=False
    )


class EngineTask(Task):
    """A task whose features may come from a cache and whose pixels from decoding processes.

    Attributes:
        cache: None to compute every feature.
        sizes: those that `pixels` has been asked for.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.cache: FeatureCache | None = None
        self.sizes: set[int | None] = set()
        self._watch = Watch(self.backbone.model)
        self._owed = 0.0
        self._trusted = False

    def settle(self) -> float:
        """Seconds to add to the clock's since the last call: what was ready cost time before."""
        owed, self._owed = self._owed, 0.0
        return owed

    @override
    def pixels(
        self, samples: Sequence[Sample], size: int | None = None
    ) -> Float[Tensor, "batch 3 side side"]:
        self.sizes.add(size)
        images = []
        for sample in samples:
            if isinstance(sample, PreparedSample) and size in sample.prepared:
                image, seconds = sample.prepared[size]
                self._owed += seconds
            else:
                image = self.backbone.preprocess(sample.image, size)
            images.append(image)
        return torch.stack(images).to(self.device)

    @override
    @torch.no_grad()
    def encode_image(self, samples: Sequence[Sample]) -> Float[Tensor, "batch dim"]:
        started, computing, cache = self._clock(), 0.0, self.cache
        # Another model or another precision than the cache's key says.
        autocast = torch.is_autocast_enabled(self.device.type)
        if cache is None or autocast or not self._watch.unchanged():
            return super().encode_image(samples)
        names = [image_name(sample.image) for sample in samples]
        known = self._known(cache, names, samples)
        ready = sum(known[name].seconds for name in names if name in known)
        missing = [place for place, name in enumerate(names) if name not in known]
        if missing:
            begun, owed = self._clock(), self._owed
            features = super().encode_image([samples[place] for place in missing])
            computing = self._clock() - begun
            seconds = (computing + self._owed - owed) / len(missing)
            computed = {
                names[place]: Feature(values, seconds)
                for place, values in zip(missing, features.cpu(), strict=True)
            }
            cache.write(computed)
            known |= computed
        result = torch.stack([known[name].values for name in names]).to(self.device)
        self._owed += ready + computing - (self._clock() - started)
        return result

    def _known(
        self, cache: FeatureCache, names: Sequence[str], samples: Sequence[Sample]
    ) -> dict[str, Feature]:
        """What the cache knows, once the first feature of a run has been found to be right.

        A key cannot hold everything that rounding depends on, nor a change of somebody's code.
        """
        known = cache.read(names)
        place = next((place for place, name in enumerate(names) if name in known), None)
        if place is None or self._trusted:
            return known
        pixels = super().pixels([samples[place]])
        fresh = self.in_fixed_groups(self.backbone.encode_image, pixels)[0].cpu()
        self._trusted = torch.equal(fresh, known[names[place]].values)
        if self._trusted:
            return known
        cache.clear()
        return {}

    def _clock(self) -> float:
        cost.synchronize(self.device)
        return time.perf_counter()
