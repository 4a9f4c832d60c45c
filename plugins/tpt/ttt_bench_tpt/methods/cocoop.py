"""CoCoOp: the frozen dual encoder under a learned context that depends on the image.

Paper: Zhou, Yang, Loy and Liu 2022, Conditional Prompt Learning for Vision-Language Models (CVPR
    2022, arXiv 2203.05557), section 3.2.
Code: KaiyangZhou/CoOp (MIT licence).
Kind: sample. Nothing is adapted at test time.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG, Task
from ttt_bench_tpt.prompt_adapter import PromptAdapter, PromptConfig


class CoCoOp(PromptAdapter[PromptConfig]):
    """`cocoop`: a learned context, shifted by a meta network of the image's feature."""

    Config = PromptConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.prompt = self.learned_prompt(self.config.checkpoint, conditional=True)
        self.embed_classes(len(self.prompt.context))

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        unit = F.normalize(self.task.encode_image(samples), dim=1)
        predictions = []
        for features in unit.split(self.stack):
            context = self.prompt.conditioned_on(features)  # (samples, tokens, width)
            text = self.text_features(context)  # (samples, classes, dim)
            scores = self.logits(text, features[:, None])[:, 0]  # (samples, classes)
            predictions += [Prediction(logits) for logits in scores]
        return predictions
