"""A worker: one method on one backbone and dataset, turning chunks into records."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ttt_bench import cost
from ttt_bench.adapter import Adapter, Prediction, Sample, Stream
from ttt_bench.backbones.base import Backbone
from ttt_bench.datasets.base import Dataset
from ttt_bench.engine.decoding import Decoder
from ttt_bench.engine.environment import device_name
from ttt_bench.engine.loading import load_backbone, load_dataset
from ttt_bench.engine.plan import Chunk
from ttt_bench.engine.task import EngineTask
from ttt_bench.errors import UserError
from ttt_bench.feature_cache import FeatureCache
from ttt_bench.plugins import registry
from ttt_bench.records import Records

PROBED_SAMPLES = 2


@dataclass(frozen=True)
class Job:
    """Everything that says what a worker does, by name: it can be pickled and sent anywhere.

    Attributes:
        weights: a file of weights for the backbone, None for its own.
        feature_cache: whether features of the backbone are kept on disk and taken from there.
        decoders: how many processes decode images ahead of the method.
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
    decoders: int = 0


class Worker:
    """Holds a method ready for its task; the labels stay on this side of `adapt`."""

    def __init__(self, job: Job, dataset: Dataset, backbone: Backbone) -> None:
        self.job = job
        self.dataset = dataset
        if job.device == "cpu":
            # The number of threads is part of how sums are rounded. With one, a result is the same
            # on any number of cores and workers; cores are used by giving --workers.
            torch.set_num_threads(1)
        self._spec = registry().adapters.find(job.method).spec
        self.adapter = self._new_adapter()
        with cost.Counter() as counter, cost.phase("setup"):
            task = EngineTask(
                backbone,
                dataset.class_names,
                dataset.prompt,
                dataset.templates,
                dataset.augmix,
                dataset.imagenet_indices,
            )
            if self.adapter.uses_rule:
                # Made, or refused, before the first sample.
                _ = task.rule
            with _blaming(f"{job.method} failed in its setup"):
                self.adapter.setup(task)
        if job.feature_cache:
            task.cache = FeatureCache(_features_key(job, dataset, backbone))
        self.task = task
        self._setup = counter
        self._weights = backbone.card().get("weights")
        self._decoder = Decoder(dataset, backbone, job.decoders)

    @classmethod
    def build(cls, job: Job) -> "Worker":
        """A worker from names alone, as another process needs it."""
        dataset = load_dataset(job.dataset, job.data_root)
        return cls(job, dataset, load_backbone(job.backbone, job.device, job.weights))

    @contextmanager
    def expecting(self, chunks: Sequence[Chunk]) -> Iterator[None]:
        """Inside, `run` gets these chunks in this order, so their images may be decoded ahead."""
        self.task.sizes.clear()
        self._decoder.expect(index for chunk in chunks for index in chunk.indices)
        try:
            yield
        finally:
            self._decoder.close()

    def run(self, chunk: Chunk) -> Records:
        """The records of one chunk.

        Raises:
            UserError: an image is unreadable, or the method fails.
        """
        order, size = list(chunk.indices), self.job.batch_size
        if self._spec.online:
            order, size = self._stream(chunk), self.adapter.config.batch_size
        predictions: dict[int, Prediction] = {}
        seconds = 0.0
        for at in range(0, len(order), size):
            indices = order[at : at + size]
            samples = self._decoder.samples(indices, self.task.sizes)
            cost.synchronize(self.task.device)
            started = time.perf_counter()
            predictions |= zip(indices, self._adapt(samples), strict=True)
            cost.synchronize(self.task.device)
            seconds += time.perf_counter() - started + self.task.settle()
        return self._records(chunk, [predictions[index] for index in chunk.indices], seconds)

    def _stream(self, chunk: Chunk) -> list[int]:
        """Begin a stream: a new adapter, and an order drawn from the seed."""
        self.adapter = self._new_adapter()
        with _blaming(f"{self.job.method} failed in its setup"):
            self.adapter.setup(self.task)
        ids = {index: self.dataset.sample_id(index) for index in chunk.indices}
        draws = {i: Stream(self.job.seed, ids[i]).numpy("place in its stream") for i in ids}
        return sorted(chunk.indices, key=lambda index: draws[index].random())

    def _new_adapter(self) -> Adapter[Any]:
        adapter_type: type[Adapter[Any]] = self._spec.load()
        config = adapter_type.Config(**self.job.config)
        if self._spec.online and not hasattr(config, "batch_size"):
            raise UserError(f"{self.job.method} is online: its configuration needs a batch_size")
        return adapter_type(config)

    def probe(self, indices: Sequence[int]) -> dict[str, Any]:
        """What a sample costs, counted on a few of them, one at a time.

        Returns:
            FLOPs of the setup (once per task) and of a sample, by phase and direction; bytes at
            the peak; parameters of the backbone and parameters updated; the samples counted.
        """
        counters = []
        cache, self.task.cache = self.task.cache, None
        for index in indices[:PROBED_SAMPLES]:
            samples = self._decoder.samples([index], ())
            with cost.Counter() as counter:
                self._adapt(samples)
            counters.append(counter)
        self.task.cache = cache
        per_sample = {
            phase: {
                direction: sum(c.flops[phase][direction] for c in counters) / len(counters)
                for direction in ("forward", "backward")
            }
            for phase in ("teacher", "student")
        }
        resident = cost.weight_bytes(self.task.backbone.model) + self._setup.live_bytes
        return {
            "probed_samples": len(counters),
            "setup_flops": dict(self._setup.flops["setup"]),
            "flops_per_sample": per_sample,
            "peak_memory_bytes": resident + max(counter.peak_bytes for counter in counters),
            "backbone_parameters": sum(
                parameter.numel() for parameter in self.task.backbone.model.parameters()
            ),
            "parameters_updated": max(sum(c.parameters.values()) for c in counters),
        }

    def leave(self) -> None:
        """Check, when the work is done, that the backbone is as it was before.

        The methods of a command share it: one that wrote to it spoils all that follow.

        Raises:
            UserError: its weights changed.
        """
        if self.task.backbone.card().get("weights") == self._weights:
            return
        if self.task.cache is not None:
            # The features in it were not of the backbone that its key names.
            self.task.cache.clear()
        raise UserError(
            f"{self.job.method} changed the weights of {self.job.backbone}, which it must leave "
            "alone or put back; its records are worth nothing: remove the run's folder"
        )

    def _adapt(self, samples: list[Sample]) -> list[Prediction]:
        streams = [Stream(self.job.seed, sample.id) for sample in samples]
        names = ", ".join(sample.id for sample in samples)
        with _blaming(f"{self.job.method} failed on samples {names}"):
            predictions = list(self.adapter.adapt(samples, streams))
        if len(predictions) != len(samples):
            raise UserError(
                f"{self.job.method} returned {len(predictions)} predictions for "
                f"{len(samples)} samples; `adapt` owes one for each"
            )
        for sample, prediction in zip(samples, predictions, strict=True):
            classes = (len(self.task.class_names),)
            self._check(sample, prediction.logits, classes)
            if prediction.unadapted is not None:
                self._check(sample, prediction.unadapted, classes)
            if prediction.steps is not None:
                self._check(sample, prediction.steps, (len(prediction.steps), *classes))
                if prediction.steps[-1].argmax() != prediction.logits.argmax():
                    raise UserError(
                        f"{self.job.method} reports for sample {sample.id} another class than "
                        "after its last step; the last step is the reported one"
                    )
        return predictions

    def _check(self, sample: Sample, scores: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(scores.shape) != shape:
            raise UserError(
                f"{self.job.method} returned scores of shape {list(scores.shape)} for sample "
                f"{sample.id}; the task wants {list(shape)}"
            )
        if not bool(torch.isfinite(scores).all()):
            raise UserError(
                f"{self.job.method} returned scores that are not finite for sample {sample.id}"
            )

    def _records(self, chunk: Chunk, predictions: list[Prediction], seconds: float) -> Records:
        entries = [self.dataset.entries[index] for index in chunk.indices]
        logits = torch.stack([p.logits.detach().float().cpu() for p in predictions])
        confidence, prediction = logits.softmax(dim=1).max(dim=1)
        steps = [p.steps.argmax(dim=1).cpu() for p in predictions if p.steps is not None]
        before = [p.unadapted.argmax().cpu() for p in predictions if p.unadapted is not None]
        return Records(
            sample_id=[self.dataset.sample_id(index) for index in chunk.indices],
            group=[entry.group for entry in entries],
            label=np.array([entry.label for entry in entries]),
            prediction=prediction.numpy(),
            confidence=confidence.numpy(),
            unadapted_prediction=(
                torch.stack(before).numpy() if len(before) == len(entries) else None
            ),
            step_predictions=torch.stack(steps).numpy() if len(steps) == len(entries) else None,
            logits=logits.numpy(),
            seconds=seconds,
        )


def _features_key(job: Job, dataset: Dataset, backbone: Backbone) -> dict[str, Any]:
    """What a feature depends on besides its image, as far as names and numbers can say it."""
    return {
        "backbone": job.backbone,
        **backbone.card(),
        "dataset": dataset.name,
        "revision": dataset.card(),
        "device": device_name(job.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Say in one line what a method's own code did wrong."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        hint = "set TTT_BENCH_TRACEBACK=1 to see where"
        raise UserError(f"{what}: {reason}; {hint}") from error
