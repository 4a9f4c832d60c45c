"""Worker: one method on one backbone and dataset, turning chunks into records."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ttt_bench.api import cost
from ttt_bench.api.adapter import Adapter
from ttt_bench.api.backbone import Backbone
from ttt_bench.api.contract import form, judged
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import MethodError, UserError, method_errors
from ttt_bench.api.executor import Chunk, ChunkResult, RecordsWithState, UnreadableImages
from ttt_bench.api.forward_precision import switch_tf32_off
from ttt_bench.api.inputs import Inputs
from ttt_bench.api.precision import Precision
from ttt_bench.api.records import Records
from ttt_bench.api.sample import Prediction, SampleRNG
from ttt_bench.api.views import ViewSet
from ttt_bench.cache.features import FeatureCache, bytes_per_sample, features_key
from ttt_bench.datasets.loading import load_dataset
from ttt_bench.datasets.source_images import SourceImages
from ttt_bench.engine.loading import load_backbone
from ttt_bench.engine.probe import count_costs
from ttt_bench.engine.process_state import restored, without_exit
from ttt_bench.engine.stream import StreamWorker
from ttt_bench.engine.task import CachingTask
from ttt_bench.preparation.loader import SampleLoader
from ttt_bench.preparation.parts import Preparation
from ttt_bench.preparation.pixels import PixelMaker
from ttt_bench.preparation.sample import PreparedSample
from ttt_bench.registry import registry
from ttt_bench.toolkit.interrupt import check_interrupted


@dataclass(frozen=True)
class MethodWorkerSpec:
    """Everything that says what a worker does, by name: it can be pickled and sent anywhere.

    Attributes:
        method: the method's name.
        config: every field of its configuration.
        dataset: the dataset's name.
        backbone: the backbone's name.
        data_root: where datasets are looked for.
        device: the device to compute on.
        seed: the seed of every random draw.
        batch_size: samples that a method of kind `sample` gets at once.
        weights: a file of weights for the backbone, None for its own.
        feature_cache: whether features of the backbone are kept on disk and taken from there.
        loaders: how many processes prepare samples ahead of the method.
        precision: the precision of the backbone's forward pass.
    """

    method: str
    config: dict[str, Any]
    dataset: str
    backbone: str
    data_root: Path | None
    device: str
    seed: int
    batch_size: int
    weights: Path | None = None
    feature_cache: bool = True
    loaders: int = 0
    precision: Precision = "fp32"

    def on_device(self, device: str) -> "MethodWorkerSpec":
        """Return the same spec for another device."""
        return replace(self, device=device)

    def with_loaders(self, number: int) -> "MethodWorkerSpec":
        """Return the same spec with another number of loaders."""
        return replace(self, loaders=number)

    def build(self, left_over: "LeftOver | None" = None) -> "MethodWorker":
        """Load method, backbone and dataset.

        Args:
            left_over: what this process's last worker has left, None for nothing.

        Raises:
            UserError: one of them cannot be loaded.
        """
        kept = LeftOver(self) if left_over is None else left_over
        if (kept.spec.dataset, kept.spec.data_root) != (self.dataset, self.data_root):
            kept.dataset = None
        model = (self.backbone, self.device, self.weights)
        if (kept.spec.backbone, kept.spec.device, kept.spec.weights) != model:
            # Freed before another one is loaded.
            kept.backbone = None
        dataset, backbone = kept.dataset, kept.backbone
        if dataset is None:
            dataset = load_dataset(self.dataset, self.data_root)
        if backbone is None:
            backbone = load_backbone(self.backbone, self.device, self.weights)
        return MethodWorker(self, dataset, backbone)


@dataclass
class LeftOver:
    """What a worker has loaded and the next one of its process can use again.

    Attributes:
        spec: what the worker was built from.
        dataset: its dataset.
        backbone: its backbone.
    """

    spec: MethodWorkerSpec
    dataset: Dataset | None = None
    backbone: Backbone | None = None


class MethodWorker:
    """A method ready for its task; the labels stay on this side of `adapt`."""

    def __init__(self, spec: MethodWorkerSpec, dataset: Dataset, backbone: Backbone) -> None:
        self.spec = spec
        self.dataset = dataset
        if spec.device == "cpu":
            # The number of threads is part of how sums are rounded. With one, a result is the same
            # on any number of cores and workers; cores are used by giving --workers.
            torch.set_num_threads(1)
        switch_tf32_off()
        adapter_spec = registry().adapters.find(spec.method).spec
        self._kind = adapter_spec.kind
        self._package = adapter_spec.code.partition(".")[0].partition(":")[0]
        self._form = ""
        self.adapter = self._new_adapter()
        with cost.Counter() as counter, cost.phase("setup"):
            source = SourceImages(dataset)
            task = CachingTask(
                backbone, dataset.classes, dataset.augmix, spec.precision, source, source.labels
            )
            if self.adapter.uses_backbone_classifier:
                # Built, or refused, before the first sample.
                _ = task.classifier
            self.task = task
            inputs = self._inputs()
            self._set_up(self.adapter)
        self._setup_cost = counter
        self._stream = StreamWorker(self._begin_stream, self.task)
        # Once: hashing the weights of a large model takes a second.
        card = backbone.card()
        self._weights = card.get("weights")
        caches = self._caches(inputs, card) if spec.feature_cache else {}
        # Without loaders, a whole batch is opened before the method reads its images.
        opened = 0 if spec.loaders else spec.config.get("batch_size", spec.batch_size)
        preparation = Preparation(dataset, PixelMaker(backbone), spec.seed, inputs, caches, opened)
        self._loader = SampleLoader(preparation, spec.loaders)
        self._announced = False
        task.use(caches, self._loader)

    @contextmanager
    def prefetching(self, chunks: Sequence[Chunk]) -> Iterator[None]:
        """Let loaders work ahead; inside, `run` gets these chunks in this order."""
        self._loader.announce(batch for chunk in chunks for batch in self._batches(chunk))
        self._announced = True
        try:
            yield
        finally:
            self._announced = False
            self._loader.close()

    def run(self, chunk: Chunk) -> ChunkResult:
        """Compute the records of one chunk, or find its unreadable images.

        Raises:
            UserError: the method fails.
            KeyboardInterrupt: the user has interrupted the command.
        """
        if self._kind == "stream":
            with self._guarded(f"{self.spec.method} failed to go on from its state"):
                self.adapter = self._stream.enter(chunk)
        # The images after a chunk that could not be predicted are opened, to name the damaged ones.
        broken = self._kind == "stream" and self._stream.broken
        if not self._announced:
            self._loader.announce(self._batches(chunk))
        predictions: dict[int, Prediction] = {}
        digests: dict[int, str] = {}
        unreadable: list[tuple[int, str]] = []
        seconds = 0.0
        for batch in self._batches(chunk):
            check_interrupted()
            samples, problems = self._loader.load(batch)
            unreadable += problems
            # The other images of the chunk are opened all the same, to name all that are damaged.
            if unreadable or broken:
                continue
            digests |= {i: sample.digest for i, sample in zip(batch, samples, strict=True)}
            cost.synchronize(self.task.device)
            started = time.perf_counter()
            predictions |= zip(batch, self._adapt(samples), strict=True)
            cost.synchronize(self.task.device)
            seconds += time.perf_counter() - started + self.task.pop_saved_seconds()
            seconds -= self._loader.pop_decoding_seconds()
        broken = broken or bool(unreadable)
        self._stream.leave(chunk, broken)
        if broken:
            return UnreadableImages(tuple(unreadable))
        records = self._records(chunk, predictions, digests, seconds)
        with self._guarded(f"{self.spec.method} failed to give its state"):
            state = self._stream.state_after(chunk) if self._kind == "stream" else None
        return records if state is None else RecordsWithState(records, state)

    def _batches(self, chunk: Chunk) -> Sequence[tuple[int, ...]]:
        indices, size = chunk.indices, self.spec.batch_size
        cut = [indices[at : at + size] for at in range(0, len(indices), size)]
        return chunk.batches or cut

    def _new_adapter(self) -> Adapter[Any]:
        adapter_type: type[Adapter[Any]] = registry().adapters.find(self.spec.method).spec.load()
        return adapter_type(adapter_type.Config(**self.spec.config))

    def _begin_stream(self) -> Adapter[Any]:
        adapter = self._new_adapter()
        self._set_up(adapter)
        return adapter

    def _set_up(self, adapter: Adapter[Any]) -> None:
        what = f"{self.spec.method} failed in its setup"
        with restored(self.spec.method), self._guarded(what):
            adapter.setup(self.task)

    def _inputs(self) -> Inputs:
        with self._guarded(f"{self.spec.method} failed to declare its inputs"):
            return self.adapter.inputs(self.task)

    def _caches(
        self, inputs: Inputs, card: Mapping[str, Any]
    ) -> dict[ViewSet | None, FeatureCache]:
        """Return a feature cache for plain images and one for every view set."""
        spec, backbone = self.spec, self.task.backbone

        def cache(view_set: ViewSet | None) -> FeatureCache:
            key = features_key(
                spec.backbone, spec.device, self.dataset, card, spec.precision, view_set
            )
            return FeatureCache(key, backbone.feature_dim)

        return {view_set: cache(view_set) for view_set in (None, *inputs.view_features)}

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Run the method's own code, whatever it raises and however it leaves."""
        with method_errors(what, self._package), without_exit(self.spec.method):
            yield

    def count_costs(self, batches: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Count what a sample costs on a few of them, see `engine.probe`.

        Args:
            batches: entries as the method would get them, those of a method of kind `sample` alone.
        """

        def predict(batch: Sequence[int]) -> None:
            samples, problems = self._loader.load(batch)
            # An unreadable image is named when its chunk runs.
            if not problems:
                self._adapt(samples)

        remembers = self._kind == "stream"
        return count_costs(predict, batches, self.task.backbone, self._setup_cost, remembers)

    def cached_bytes_per_sample(self) -> int:
        """Return the bytes that the features of one sample take in the feature cache."""
        inputs = self._loader.preparation.inputs
        return bytes_per_sample(inputs, self.task.backbone.feature_dim)

    def verify_backbone(self) -> None:
        """Check that the backbone is as it was; the methods of a command share it.

        Raises:
            UserError: its weights changed.
        """
        if self.backbone_unchanged():
            return
        # The features in it were not of the backbone that its key names.
        self.task.clear_cache()
        raise MethodError(
            f"{self.spec.method} changed the weights of {self.spec.backbone}, which it must leave "
            "alone or put back; its records are invalid: remove the run's folder"
        )

    def backbone_unchanged(self) -> bool:
        """Say whether the backbone's weights are those from before the method's setup."""
        return self.task.backbone.card().get("weights") == self._weights

    def left_over(self) -> LeftOver:
        """Return what the next worker of this process can use again."""
        return LeftOver(self.spec, self.dataset, self.task.backbone)

    def _adapt(self, samples: list[PreparedSample]) -> list[Prediction]:
        rngs = [SampleRNG(self.spec.seed, sample.id) for sample in samples]
        names = [sample.id for sample in samples]
        what = f"{self.spec.method} failed on samples {', '.join(names)}"
        with self._guarded(what):
            predictions = self.adapter.adapt(samples, rngs)
        try:
            kept = judged(predictions, names, len(self.task.classes))
            self._form = self._form or form(kept[0])
            if form(kept[0]) != self._form:
                raise UserError(
                    f"sample {names[0]}: has {form(kept[0])}, samples before had {self._form}; "
                    "every sample needs the same"
                )
        except UserError as error:
            raise MethodError(f"{self.spec.method}: {error}") from error
        return kept

    def _records(
        self,
        chunk: Chunk,
        predictions: Mapping[int, Prediction],
        digests: Mapping[int, str],
        seconds: float,
    ) -> Records:
        entries = [self.dataset.entries[index] for index in chunk.indices]
        ordered = [predictions[index] for index in chunk.indices]
        logits = torch.stack([one.logits for one in ordered])
        confidence, prediction = logits.softmax(dim=1).max(dim=1)
        steps = [one.step_logits for one in ordered if one.step_logits is not None]
        unadapted = [one.unadapted_logits for one in ordered if one.unadapted_logits is not None]
        order = [index for batch in chunk.batches for index in batch]
        places = dict(zip(order, range(chunk.position, chunk.position + len(order)), strict=True))
        in_stream = chunk.stream is not None
        records = Records(
            sample_id=[self.dataset.sample_id(index) for index in chunk.indices],
            group=[entry.group for entry in entries],
            label=np.array([entry.label for entry in entries]),
            prediction=prediction.numpy(),
            confidence=confidence.numpy(),
            unadapted_prediction=torch.stack(unadapted).argmax(dim=1).numpy()
            if unadapted
            else None,
            step_predictions=torch.stack(steps).argmax(dim=2).numpy() if steps else None,
            logits=logits.numpy(),
            seconds=seconds,
            image_digest=[digests[index] for index in chunk.indices],
            stream=[chunk.stream] * len(entries) if in_stream else None,
            position=np.array([places[index] for index in chunk.indices], np.int32)
            if in_stream
            else None,
        )
        return records.read_only()
