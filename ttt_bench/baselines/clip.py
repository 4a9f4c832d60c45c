"""Zero-shot classification with a dual encoder (Radford et al. 2021, section 3.1)."""

from collections.abc import Sequence

from typing_extensions import override

from ttt_bench.api.adapter import Adapter, AdapterConfig
from ttt_bench.api.sample import Prediction, Sample, SampleRNG
from ttt_bench.api.task import Task
from ttt_bench.baselines.source import Source


class ZeroShot(Source):
    """`clip-zero-shot`: scaled cosine to the text features of one prompt per class."""


class Ensemble(Adapter[AdapterConfig]):
    """`clip-ensemble`: scaled cosine to the mean text feature of the dataset's templates."""

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.ensemble = task.build_classifier(task.classes.templates)

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        return [Prediction(self.ensemble(f)) for f in self.task.encode_image(samples)]
