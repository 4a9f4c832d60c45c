"""The control `view-vote`: every view votes for its best class, without adaptation.

Kind: sample. Nothing is adapted. The row says what the views alone give.
"""

from collections.abc import Sequence

import torch
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG
from ttt_bench_clip_tta.adapter import ViewAdapter, ViewConfig
from ttt_bench_clip_tta.views import count_votes, mean_log_probabilities, vote_scores


class ViewVote(ViewAdapter[ViewConfig]):
    """`view-vote`: the class of most views; ties go to the higher mean probability."""

    Config = ViewConfig

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        logits = self.logits(self.encode(samples, rngs))  # (samples, views, classes)
        votes = count_votes(logits.argmax(dim=2), logits.shape[2])
        scores = vote_scores(votes, mean_log_probabilities(logits))
        return [Prediction(s, None, plain) for s, plain in zip(scores, logits[:, 0], strict=True)]
