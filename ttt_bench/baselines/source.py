"""`source`: the model before any test-time training, named as in the field's papers."""

from collections.abc import Sequence

from typing_extensions import override

from ttt_bench.api.adapter import Adapter, AdapterConfig
from ttt_bench.api.sample import Prediction, Sample, SampleRNG


class Source(Adapter[AdapterConfig]):
    """`source`: the frozen backbone's classifier on its image feature."""

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        return [Prediction(self.task.logits(f)) for f in self.task.encode_image(samples)]
