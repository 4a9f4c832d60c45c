"""VTE: classifies the mean feature of the confident views.

Paper: Döbler, Marsden, Raichle and Yang 2024, A Lost Opportunity for Vision-Language Models: A
    Comparative Study of Online Test-Time Adaptation for Vision-Language Models (arXiv 2405.14977),
    section 4.
Code: mariodoebler/test-time-adaptation (MIT licence).
Kind: sample. Nothing is trained.
"""

from collections.abc import Sequence

import torch
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG
from ttt_bench_clip_tta.adapter import ConfidentViewConfig, ViewAdapter
from ttt_bench_clip_tta.views import view_statistics


class VteConfig(ConfidentViewConfig):
    """The configuration of `vte`; the release has an ensemble of prompts by default."""


class Vte(ViewAdapter[VteConfig]):
    """`vte`: scaled cosines with the mean of unit features, which is not normalized again."""

    Config = VteConfig

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        views = self.encode(samples, rngs)
        logits = self.logits(views)
        # The mean of the logits is the product of the mean feature.
        means = view_statistics(views, logits, self.config.selection).logits
        return [
            Prediction(mean, unadapted_logits=plain)
            for mean, plain in zip(means, logits[:, 0], strict=True)
        ]
