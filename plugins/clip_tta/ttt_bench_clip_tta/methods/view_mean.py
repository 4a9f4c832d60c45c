"""The control `view-mean`: the mean of the views' distributions, without adaptation.

Kind: sample. Nothing is adapted. The row says what the views alone give.
"""

from collections.abc import Sequence

import torch
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG
from ttt_bench_clip_tta.adapter import ViewAdapter, ViewConfig
from ttt_bench_clip_tta.views import mean_log_probabilities


class ViewMean(ViewAdapter[ViewConfig]):
    """`view-mean`: test-time augmentation, the probabilities averaged."""

    Config = ViewConfig

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        logits = self.logits(self.encode(samples, rngs))  # (samples, views, classes)
        scores = mean_log_probabilities(logits)
        return [Prediction(s, None, plain) for s, plain in zip(scores, logits[:, 0], strict=True)]
