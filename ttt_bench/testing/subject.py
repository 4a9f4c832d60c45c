"""The method under check: loaded once, set up anew for every trial."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ttt_bench.adapter import Adapter, Sample
from ttt_bench.backbones.base import Backbone
from ttt_bench.datasets.base import choose
from ttt_bench.engine.config import resolve_config
from ttt_bench.engine.decoding import pixels_alone
from ttt_bench.engine.loading import choose_device, load_backbone, load_dataset
from ttt_bench.engine.run import Request, check
from ttt_bench.engine.task import EngineTask
from ttt_bench.errors import UserError
from ttt_bench.testing import surroundings
from ttt_bench.testing.state import Node, changes, picture
from ttt_bench.testing.tour import Tour
from ttt_bench.testing.trial import Trial, blaming


class Subject:
    """A method, its configuration, and what it is tried on.

    Attributes:
        overrides: what the user asked for in the configuration.
        config: all of its values, as plain JSON.
        indices: which of the dataset's entries are the samples.
    """

    def __init__(
        self,
        method: str,
        backbone: str | None,
        dataset: str,
        data_root: Path | None,
        overrides: Mapping[str, Any],
        samples: int,
        device: str,
    ) -> None:
        """Load everything.

        Raises:
            UserError: something cannot be had, or does not fit together.
        """
        request = Request(method, dataset, backbone, overrides=overrides, data_root=data_root)
        self.spec, self.backbone_name = check(request)
        self.overrides = overrides
        self.config = resolve_config(self.spec, self.backbone_name, overrides)
        self.dataset = load_dataset(dataset, data_root)
        self.device = choose_device(device)
        self.indices = choose(self.dataset.entries, samples)
        if len(self.indices) < 3:
            raise UserError(f"{dataset} has {len(self.indices)} samples; a check wants 3")
        self._images = [self.dataset.open(index) for index in self.indices]
        self.backbone = self._load_backbone()
        self._untouched = self._backbone_picture()

    @property
    def samples(self) -> list[Sample]:
        """A few of the dataset, as the engine hands them out: decoded anew each time."""
        return [
            Sample(self.dataset.sample_id(index), pixels_alone(image))
            for index, image in zip(self.indices, self._images, strict=True)
        ]

    def task(
        self, backbone: Backbone | None = None, classes: Sequence[int] | None = None
    ) -> EngineTask:
        """A new task, on another backbone or on some of the classes where asked for.

        Args:
            classes: which of the dataset's classes, in which order.
        """
        data = self.dataset
        chosen = range(len(data.class_names)) if classes is None else classes
        known = data.imagenet_indices
        return EngineTask(
            backbone or self.fresh_backbone(),
            [data.class_names[label] for label in chosen],
            data.prompt,
            data.templates,
            data.augmix,
            None if known is None else [known[label] for label in chosen],
        )

    def trial(self, task: EngineTask | None = None) -> Trial:
        """The method set up anew, as a worker does it.

        Raises:
            UserError: the method refuses the task.
            CheckFailed: its setup raises anything else.
        """
        kind: type[Adapter[Any]] = self.spec.load()
        with blaming("its configuration is refused by its own class"):
            adapter = kind(kind.Config(**self.config))
        task = task or self.task()
        if adapter.uses_rule:
            _ = task.rule
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
        backbone = load_backbone(self.backbone_name, self.device)
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
        surroundings.reseed(1)
        trial = self.trial()
        for place, sample in enumerate(self.samples[:2]):
            surroundings.reseed(2 + place)
            (outcome,) = trial.predict([sample])
            if gap := outcome.difference(self.tour.of(place)):
                return f"sample {place + 1} differs in {gap}"
        return ""

    @cached_property
    def way_back(self) -> Tour:
        """A fresh adapter, the samples from the last to the first."""
        return Tour.make(self, range(len(self.samples) - 1, -1, -1))
