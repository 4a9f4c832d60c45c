"""The method under check: loaded once, set up anew for every trial."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ttt_bench.api.adapter import Adapter
from ttt_bench.api.backbone import Backbone
from ttt_bench.api.dataset import spread_sample
from ttt_bench.api.errors import UserError
from ttt_bench.api.sample import Sample
from ttt_bench.engine.loading import choose_device, load_backbone, load_dataset
from ttt_bench.features.loader import strip_metadata
from ttt_bench.features.task import CachingTask
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.run import validate
from ttt_bench.testing.attempt import Trial, blaming
from ttt_bench.testing.sequence import Tour
from ttt_bench.testing.snapshot import global_state
from ttt_bench.testing.snapshot.tree import Node, changes, picture


class Subject:
    """A method, its configuration, and what it is tried on.

    Attributes:
        settings: what the user asked for in the configuration.
        config: all of its values, as plain JSON.
        indices: which of the dataset's entries are the samples.
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
            UserError: something cannot be had, or does not fit together.
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
        self.weights = weights
        self.dataset = load_dataset(dataset, data_root)
        self.device = choose_device(device)
        self.indices = spread_sample(self.dataset.entries, samples)
        if len(self.indices) < 3:
            raise UserError(f"{dataset} has {len(self.indices)} samples; a check wants 3")
        self._images = [self.dataset.open(index) for index in self.indices]
        self.backbone = self._load_backbone()
        self._untouched = self._backbone_picture()

    @property
    def samples(self) -> list[Sample]:
        """A few of the dataset, as the engine hands them out: decoded anew each time."""
        return [
            Sample(self.dataset.sample_id(index), strip_metadata(image))
            for index, image in zip(self.indices, self._images, strict=True)
        ]

    def task(
        self, backbone: Backbone | None = None, classes: Sequence[int] | None = None
    ) -> CachingTask:
        """A new task, on another backbone or on some of the classes where asked for.

        Args:
            classes: which of the dataset's classes, in which order.
        """
        data = self.dataset
        chosen = data.classes if classes is None else data.classes.subset(classes)
        return CachingTask(backbone or self.fresh_backbone(), chosen, data.augmix)

    def trial(self, task: CachingTask | None = None) -> Trial:
        """The method set up anew, as a worker does it.

        Raises:
            UserError: the method refuses the task.
            CheckFailed: its setup raises anything else.
        """
        kind: type[Adapter[Any]] = self.spec.load()
        with blaming("its configuration is refused by its own class"):
            adapter = kind(kind.Config(**self.config))
        task = task or self.task()
        if adapter.uses_backbone_classifier:
            _ = task.classifier
        with blaming("setup raises"):
            adapter.setup(task)
        return Trial(adapter, task)

    def fresh_backbone(self) -> Backbone:
        """The backbone, loaded again where a method has changed it."""
        if changes(self._untouched, self._backbone_picture()):
            self.backbone = self._load_backbone()
            self._untouched = self._backbone_picture()
        return self.backbone

    def _load_backbone(self) -> Backbone:
        backbone = load_backbone(self.backbone_name, self.device, self.weights)
        with torch.no_grad():
            # What a network makes on its first use is no method's doing.
            backbone.encode_image(
                backbone.preprocess(self.samples[0].image)[None].to(backbone.device)
            )
        return backbone

    def _backbone_picture(self) -> Node:
        return picture({"backbone": (self.backbone, "backbone")})

    @cached_property
    def fits(self) -> bool:
        """That the method can be set up as the user asks; tried once.

        Raises:
            UserError: it cannot.
            CheckFailed: its setup raises anything else.
        """
        self.trial()
        return True

    @cached_property
    def tour(self) -> Tour:
        """The samples one at a time in their order, then the first again."""
        return Tour.make(self, [*range(len(self.samples)), 0])

    @cached_property
    def unrepeatable(self) -> str:
        """How a fresh adapter differs while the global generators stand elsewhere, "" if nowhere.

        Where it does, comparing predictions tells nothing of what is compared.
        """
        global_state.reseed(1)
        trial = self.trial()
        for place, sample in enumerate(self.samples[:2]):
            global_state.reseed(2 + place)
            (outcome,) = trial.predict([sample])
            if gap := outcome.difference(self.tour.of(place)):
                return f"sample {place + 1} differs in {gap}"
        return ""

    @cached_property
    def way_back(self) -> Tour:
        """A fresh adapter, the samples from the last to the first."""
        return Tour.make(self, range(len(self.samples) - 1, -1, -1))
