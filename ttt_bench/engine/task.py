"""CachingTask: a task whose features may come from a cache and whose inputs from loaders.

A result is the same as without them, and so is the reported time: reused work is charged the
seconds that it took when it was done. Example: a cached feature took 5 ms to compute and 1 ms to
read; the clock around the method has seen 1 ms, and `pop_saved_seconds` returns the other 4 ms.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from ttt_bench.api import cost
from ttt_bench.api.backbone import Backbone
from ttt_bench.api.class_set import ClassSet
from ttt_bench.api.inputs import NormalDraw
from ttt_bench.api.precision import Precision
from ttt_bench.api.sample import Sample, SampleRNG
from ttt_bench.api.task import LazyImages, Task
from ttt_bench.api.views import ViewSet
from ttt_bench.cache.features import Feature, FeatureCache, image_name, views_name
from ttt_bench.engine.guard import BackboneGuard
from ttt_bench.preparation.loader import SampleLoader
from ttt_bench.preparation.parts import Made, Numbers, Part, Pixels, Views
from ttt_bench.preparation.pixels import PixelMaker
from ttt_bench.preparation.sample import PreparedSample, is_decoded

Rows = Sequence[int]


class CachingTask(Task):
    """A task with feature caches and inputs made ahead.

    What the engine keeps here is private, since a method's state is everything public.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: ClassSet,
        augmix: bool = False,
        precision: Precision = "fp32",
        source_images: LazyImages = (),
        source_labels: Sequence[int] = (),
    ) -> None:
        super().__init__(backbone, classes, augmix, precision, source_images, source_labels)
        self._caches: Mapping[ViewSet | None, FeatureCache] = {}
        self._pixel_maker = PixelMaker(backbone)
        self._guard = BackboneGuard(self.backbone.model)
        self._saved_seconds = 0.0
        # The view sets whose cached features were compared with computed ones.
        self._verified: set[ViewSet | None] = set()

    def use(
        self, caches: Mapping[ViewSet | None, FeatureCache], loader: SampleLoader | None = None
    ) -> None:
        """Take features from caches and inputs from a loader from now on.

        Args:
            caches: by view set, None for plain images.
            loader: gives what was made ahead.
        """
        self._caches = caches
        if loader is not None:
            _loaders[self] = loader

    def clear_cache(self) -> None:
        """Forget the cached features of this backbone and dataset."""
        for cache in self._caches.values():
            cache.clear()

    def pop_saved_seconds(self) -> float:
        """Return and reset the seconds that reused inputs would have cost."""
        saved, self._saved_seconds = self._saved_seconds, 0.0
        return saved

    @override
    def pixels(
        self, samples: Sequence[Sample], size: int | None = None
    ) -> Float[Tensor, "batch 3 side side"]:
        side, maker = size or self.backbone.image_size, self._pixel_maker
        prepared = np.empty((len(samples), 3, side, side), maker.dtype(size))
        for sample, row in zip(samples, prepared, strict=True):
            with self._taken(sample, Pixels(size)) as made:
                if made is None:
                    maker.prepare([sample.image], size, row[None])
                else:
                    row[...] = made.arrays["pixels"][0]
        return maker.finish(prepared, size)

    @override
    def view_pixels(
        self, sample: Sample, rng: SampleRNG, view_set: ViewSet
    ) -> Float[Tensor, "views 3 side side"]:
        with self._taken(sample, Views(view_set), rng) as made:
            if made is None:
                drawn = view_set.draw(sample.image, rng, self.backbone.image_size)
                prepared = self._pixel_maker.prepare(drawn.images, None)
                arrays = {"pixels": prepared, **drawn.numbers}
            else:
                arrays = dict(made.arrays)
            pixels = self._pixel_maker.finish(arrays.pop("pixels"), None)
            numbers = {name: self._on_device(values) for name, values in arrays.items()}
        return view_set.combine(pixels, numbers)

    @override
    def draw(self, rngs: Sequence[SampleRNG], draw: NormalDraw) -> list[dict[str, Tensor]]:
        drawn: list[dict[str, Tensor]] = []
        for rng in rngs:
            with self._taken_by(rng, Numbers(draw)) as made:
                if made is None:
                    drawn += super().draw([rng], draw)
                else:
                    # The names in the order of the draw.
                    drawn.append(
                        {name: self._on_device(made.arrays[name]) for name, _ in draw.shapes}
                    )
        return drawn

    @override
    @torch.no_grad()
    def encode_image(self, samples: Sequence[Sample]) -> Float[Tensor, "batch dim"]:
        def compute(rows: Rows) -> Tensor:
            return super(CachingTask, self).encode_image([samples[row] for row in rows])

        def check(row: int, feature: Tensor) -> bool:
            return torch.equal(compute([row])[0].cpu(), feature)

        names = [_name(sample) for sample in samples] if None in self._caches else []
        return self._features(None, names, compute, check, len(samples))

    @override
    @torch.no_grad()
    def encode_views(
        self, samples: Sequence[Sample], rngs: Sequence[SampleRNG], view_set: ViewSet
    ) -> Float[Tensor, "batch views dim"]:
        def compute(rows: Rows) -> Tensor:
            chosen = [samples[row] for row in rows], [rngs[row] for row in rows]
            return super(CachingTask, self).encode_views(*chosen, view_set)

        def check(row: int, features: Tensor) -> bool:
            # One group of the views costs a quarter of all.
            group = self.view_group(view_set)
            views = self.view_pixels(samples[row], rngs[row], view_set)[:group]
            return torch.equal(self.encode_pixels(views, group).cpu(), features[:group])

        names = []
        if view_set in self._caches:
            names = [views_name(_name(s), rng) for s, rng in zip(samples, rngs, strict=True)]
        return self._features(view_set, names, compute, check, len(samples))

    def _features(
        self,
        view_set: ViewSet | None,
        names: Sequence[str],
        compute: Callable[[Rows], Tensor],
        check: Callable[[int, Tensor], bool],
        number: int,
    ) -> Tensor:
        """Return features from the cache where it has them.

        Args:
            view_set: the view set, None for plain images.
            names: the names of the samples' features.
            compute: computes the features of some of the samples.
            check: says whether the cached features of a sample are those that are computed here.
            number: how many samples there are.
        """
        cache = self._caches.get(view_set)
        if cache is None or self._is_another_model():
            return compute(range(number))
        counter = cost.active_counter()
        if counter is not None:
            return self._counted(counter, cache, names, compute)
        started, computing = self._clock(), 0.0
        known = self._known_features(view_set, cache, names, check)
        reused = sum(known[name].seconds for name in names if name in known)
        missing = [row for row, name in enumerate(names) if name not in known]
        if missing:
            begun, saved = self._clock(), self._saved_seconds
            features = compute(missing).cpu()
            computing = self._clock() - begun
            seconds = (computing + self._saved_seconds - saved) / len(missing)
            computed = {
                names[row]: Feature(values, seconds)
                for row, values in zip(missing, features, strict=True)
            }
            cache.write(computed)
            known |= computed
        result = torch.stack([known[name].values for name in names]).to(self.device)
        self._saved_seconds += reused + computing - (self._clock() - started)
        return result

    def _is_another_model(self) -> bool:
        """Say whether the backbone or its precision is another than the caches' keys say."""
        return torch.is_autocast_enabled(self.device.type) or not self._guard.unchanged()

    def _known_features(
        self,
        view_set: ViewSet | None,
        cache: FeatureCache,
        names: Sequence[str],
        check: Callable[[int, Tensor], bool],
    ) -> dict[str, Feature]:
        """Read features from the cache; the first one of a run is computed again and compared.

        A key cannot hold everything that rounding depends on, nor a change of somebody's code.
        """
        known = cache.read(names)
        row = next((row for row, name in enumerate(names) if name in known), None)
        if row is None or view_set in self._verified:
            return known
        saved = self._saved_seconds
        if not check(row, known[names[row]].values):
            cache.clear()
            known = {}
        self._saved_seconds = saved
        self._verified.add(view_set)
        return known

    def _counted(
        self,
        counter: cost.Counter,
        cache: FeatureCache,
        names: Sequence[str],
        compute: Callable[[Rows], Tensor],
    ) -> Tensor:
        """Return features while costs are counted; cached ones are charged in full.

        Features that are computed here are not kept: counting pads no batch, so they are rounded in
        another way.
        """
        charge = cache.read_cost(len(names))
        if charge is not None:
            known = cache.read(names)
            if all(name in known for name in names):
                counter.charge(charge)
                return torch.stack([known[name].values for name in names]).to(self.device)
        features, counted = counter.count_apart(lambda: compute(range(len(names))))
        if charge is None:
            cache.write_cost(len(names), counted)
        return features

    @contextmanager
    def _taken(
        self, sample: Sample, part: Part, rng: SampleRNG | None = None
    ) -> Iterator[Made | None]:
        """Return a part of a sample that was made ahead, None where it has to be made here."""
        loader = _loaders.get(self)
        # A copy of a sample with another image has no digest.
        if loader is None or not isinstance(sample, PreparedSample) or not sample.digest:
            yield None
            return
        rng = rng or SampleRNG(loader.preparation.seed, sample.id)
        if rng.sample_id != sample.id:
            yield None
            return
        with self._taken_by(rng, part) as made:
            yield made

    @contextmanager
    def _taken_by(self, rng: SampleRNG, part: Part) -> Iterator[Made | None]:
        loader = _loaders.get(self)
        if loader is None:
            yield None
            return
        with loader.taken(rng, part) as made:
            if made is not None:
                self._saved_seconds += made.seconds
            yield made

    def _on_device(self, values: np.ndarray) -> Tensor:
        """Copy an array to the device."""
        on_host = torch.from_numpy(values)
        if self.device.type == "cpu":
            return on_host.clone()
        return on_host.to(self.device, non_blocking=True)

    def _clock(self) -> float:
        cost.synchronize(self.device)
        return time.perf_counter()


# Outside of the tasks, which methods hold: a loader knows the dataset, and the dataset the labels.
_loaders: WeakKeyDictionary[CachingTask, SampleLoader] = WeakKeyDictionary()


def _name(sample: Sample) -> str:
    """Return the name of a sample's image; an image that was read may have been drawn into."""
    if isinstance(sample, PreparedSample) and sample.digest and not is_decoded(sample):
        return sample.digest
    return image_name(sample.image)
