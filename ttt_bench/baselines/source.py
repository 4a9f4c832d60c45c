"""The model before any test-time training, called `source` as in the field's papers."""

from collections.abc import Sequence

from typing_extensions import override

from ttt_bench.adapter import Adapter, AdapterConfig, Prediction, Sample, Stream


class Source(Adapter[AdapterConfig]):
    """`source`: the frozen backbone's own rule on its own feature."""

    @override
    def adapt(self, samples: Sequence[Sample], streams: Sequence[Stream]) -> Sequence[Prediction]:
        return [Prediction(self.task.logits(f)) for f in self.task.encode_image(samples)]
