"""CoOp: the frozen dual encoder under a context that was learned on labelled images.

Paper: Zhou, Yang, Loy and Liu 2022, Learning to Prompt for Vision-Language Models (IJCV 2022, arXiv
    2109.01134), section 3; unified context.
Code: KaiyangZhou/CoOp (MIT licence).
Kind: sample. Nothing is adapted at test time.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from typing_extensions import override

from ttt_bench import Prediction, Sample, SampleRNG, Task
from ttt_bench_tpt.prompt_adapter import PromptAdapter, PromptConfig


class CoOp(PromptAdapter[PromptConfig]):
    """`coop`: one learned context for all images."""

    Config = PromptConfig

    @override
    @torch.no_grad()
    def setup(self, task: Task) -> None:
        super().setup(task)
        context = self.learned_prompt(self.config.checkpoint, conditional=False).context
        self.embed_classes(len(context))
        self.text = self.text_features(context[None])[0]  # (classes, dim)

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        features = F.normalize(self.task.encode_image(samples), dim=1)
        return [Prediction(self.scale * self.text @ feature) for feature in features]
