"""MethodUnderTest: a method loaded once, and set up anew for every attempt."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.backbone import Backbone
from ttt_bench.api.dataset import spread_sample
from ttt_bench.api.errors import UserError
from ttt_bench.api.sample import Sample
from ttt_bench.datasets.loading import load_dataset
from ttt_bench.datasets.source_images import SourceImages
from ttt_bench.engine.loading import choose_device, load_backbone
from ttt_bench.engine.task import CachingTask
from ttt_bench.preparation.parts import strip_metadata
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.opening import validate
from ttt_bench.testing.attempt import FreshAdapter, PredictionCopy, failing
from ttt_bench.testing.outcome import FEWEST_SAMPLES
from ttt_bench.testing.sequence import Batch, SequenceRun, batch_name, snapshot_classes, state_of
from ttt_bench.testing.snapshot import global_state
from ttt_bench.testing.snapshot.tree import Node, diff, take_snapshot

# Samples in a batch of a method of kind `batch` or `stream`, unless the user sets another number.
BATCH_SIZE = 2
# Any number; a method that seeds a global generator is unlikely to choose it.
GLOBAL_SEED = 902174


class MethodUnderTest:
    """A method, its configuration, and the samples it is tried on.

    Attributes:
        spec: how the method is registered.
        backbone_name: the backbone it runs on.
        backbone: that backbone, loaded.
        settings: the fields of the configuration that the user sets.
        config: every field of the configuration, as plain JSON.
        dataset: where the samples are from.
        indices: the dataset's entries that are the samples.
        batches: the positions of the samples in each batch, in the order of the forward pass.
        pristine_classes: the data of the method's classes and modules before it ran.
    """

    def __init__(
        self,
        method: str,
        backbone: str | None,
        dataset: str,
        data_root: Path | None,
        settings: Mapping[str, Any],
        samples: int,
        device: str,
        weights: Path | None = None,
    ) -> None:
        """Load everything.

        Raises:
            UserError: something cannot be loaded, or does not fit together.
        """
        config = RunConfig(
            method=method,
            dataset=dataset,
            backbone=backbone,
            weights=weights,
            settings=settings,
            data_root=data_root,
        )
        self.spec, self.backbone_name, self.config = validate(config)
        self.settings = settings
        if self.spec.kind != "sample" and "batch_size" not in settings:
            self._use_small_batches(config)
        self.weights = weights
        self.dataset = load_dataset(dataset, data_root)
        self.device = choose_device(device)
        self.indices = spread_sample(self.dataset.entries, samples)
        if len(self.indices) < FEWEST_SAMPLES:
            raise UserError(
                f"{dataset} has {len(self.indices)} samples; the checks need {FEWEST_SAMPLES}"
            )
        self._images = [self.dataset.open(index) for index in self.indices]
        self.batches = self._make_batches()
        self.backbone = self._load_backbone()
        self._pristine = self._snapshot_backbone()
        self.pristine_classes = snapshot_classes(self.spec.load())

    @property
    def samples(self) -> list[Sample]:
        """The samples as the engine gives them to a method, with fresh copies of the images."""
        return [
            Sample(self.dataset.sample_id(index), strip_metadata(image))
            for index, image in zip(self.indices, self._images, strict=True)
        ]

    def batch(self, positions: Sequence[int]) -> list[Sample]:
        """Return the samples at some positions."""
        samples = self.samples
        return [samples[position] for position in positions]

    def task(
        self, backbone: Backbone | None = None, classes: Sequence[int] | None = None
    ) -> CachingTask:
        """Return a new task.

        Args:
            backbone: another backbone than the method's own, None for that one.
            classes: labels of the dataset's classes to choose from, in their order; None for all.
        """
        data, source = self.dataset, SourceImages(self.dataset, classes)
        chosen = data.classes if classes is None else data.classes.subset(classes)
        return CachingTask(
            backbone or self.fresh_backbone(),
            chosen,
            data.augmix,
            source_images=source,
            source_labels=source.labels,
        )

    def fresh_adapter(self, task: CachingTask | None = None) -> FreshAdapter:
        """Set the method up, as a worker does.

        Args:
            task: the task to set it up for, None for a new one.

        Raises:
            UserError: the method refuses the task.
            CheckFailed: its setup raises anything else.
        """
        adapter_type: type[Adapter[Any]] = self.spec.load()
        with failing("its configuration is refused by its own class:"):
            adapter = adapter_type(adapter_type.Config(**self.config))
        task = task or self.task()
        if adapter.uses_backbone_classifier:
            _ = task.classifier
        with failing("setup raises"):
            adapter.setup(task)
        return FreshAdapter(adapter, task)

    def fresh_backbone(self) -> Backbone:
        """Return the backbone, loaded again if a method has changed it."""
        if diff(self._pristine, self._snapshot_backbone()):
            self.backbone = self._load_backbone()
            self._pristine = self._snapshot_backbone()
        return self.backbone

    def run_sequence(self, batches: Sequence[Batch]) -> SequenceRun:
        """Set the method up and give it batches one after another.

        Args:
            batches: the positions of the samples in each batch.

        Raises:
            CheckFailed: the method raises.
        """
        task = self.task()
        global_state.seed_everything(GLOBAL_SEED)
        before_setup = take_snapshot({"backbone": (task.backbone, "backbone")})
        switches = global_state.read_switches()
        fresh = self.fresh_adapter(task)
        global_states = [(switches, global_state.read_switches())]
        states, copies, returned = [state_of(fresh)], [], []
        for positions in batches:
            before = global_state.read()
            predictions = fresh.adapt(self.batch(positions))
            global_states.append((before, global_state.read()))
            copies.append([PredictionCopy.of(prediction) for prediction in predictions])
            returned.append(predictions)
            states.append(state_of(fresh))
        return SequenceRun(
            batches=tuple(batches),
            predictions=copies,
            returned=returned,
            states=states,
            before_setup=before_setup,
            global_states=global_states,
            purposes=fresh.purposes,
        )

    @cached_property
    def forward_pass(self) -> SequenceRun:
        """A fresh adapter on the batches in their order, then on the first batch again."""
        return self.run_sequence([*self.batches, self.batches[0]])

    @cached_property
    def reverse_pass(self) -> SequenceRun:
        """A fresh adapter on the batches from the last to the first."""
        return self.run_sequence(self.batches[::-1])

    @cached_property
    def nondeterminism(self) -> str:
        """The first difference between two adapters under different global seeds, "" if none.

        Where there is one, other comparisons of predictions say nothing.
        """
        global_state.seed_everything(1)
        fresh = self.fresh_adapter()
        for number, positions in enumerate(self.batches[:2]):
            global_state.seed_everything(2 + number)
            predictions = fresh.predict(self.batch(positions))
            for prediction, expected in zip(
                predictions, self.forward_pass.of(positions), strict=True
            ):
                if difference := prediction.difference(expected):
                    return f"{batch_name(positions)} differs in {difference}"
        return ""

    def require_setup(self) -> None:
        """Set the method up once, so that a refusal is the user's error and no check's finding.

        Raises:
            UserError: the method refuses the task.
            CheckFailed: its setup raises anything else.
        """
        _ = self._set_up

    @cached_property
    def _set_up(self) -> bool:
        self.fresh_adapter()
        return True

    def _use_small_batches(self, config: RunConfig) -> None:
        """Set the configuration's `batch_size` so that a few samples make several full batches."""
        if self.config["batch_size"] <= BATCH_SIZE:
            return
        smaller = {**config.settings, "batch_size": BATCH_SIZE}
        # A configuration may refuse so few samples; then full batches are smaller than it says.
        with suppress(UserError):
            _, _, self.config = validate(replace(config, settings=smaller))
            self.settings = smaller

    def _make_batches(self) -> list[Batch]:
        """Return batches of equal size; the last begins again with the first samples."""
        count = len(self.indices)
        size = 1
        if self.spec.kind != "sample":
            size = min(int(self.config["batch_size"]), count - 1)
        starts = range(0, count, size)
        return [tuple((start + k) % count for k in range(size)) for start in starts]

    def _load_backbone(self) -> Backbone:
        backbone = load_backbone(self.backbone_name, self.device, self.weights)
        with torch.no_grad():
            # A network may make things on its first use, which is no method's doing.
            pixels = backbone.preprocess(self.samples[0].image)[None]  # (3, S, S) -> (1, 3, S, S)
            backbone.encode_image(pixels.to(backbone.device))
        return backbone

    def _snapshot_backbone(self) -> Node:
        return take_snapshot({"backbone": (self.backbone, "backbone")})
