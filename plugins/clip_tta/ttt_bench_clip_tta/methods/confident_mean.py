"""The control `confident-mean`: the mean of the confident views' distributions, not adapted.

Kind: sample. Nothing is adapted. The row says what the selection of TPT (Shu et al. 2022, arXiv
2209.07511, section 3.2) gives without its training.
"""

from collections.abc import Sequence

import torch
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG
from ttt_bench_clip_tta.adapter import ConfidentViewConfig, ViewAdapter
from ttt_bench_clip_tta.views import confident_views, mean_log_probabilities, take_views


class ConfidentMean(ViewAdapter[ConfidentViewConfig]):
    """`confident-mean`: the probabilities of the views of lowest entropy, averaged."""

    Config = ConfidentViewConfig

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        logits = self.logits(self.encode(samples, rngs))  # (samples, views, classes)
        kept = take_views(logits, confident_views(logits, self.config.selection))
        scores = mean_log_probabilities(kept)
        return [Prediction(s, None, plain) for s, plain in zip(scores, logits[:, 0], strict=True)]
