"""The control `temperature`: the frozen dual encoder with another temperature, and nothing else.

Source: Guo, Pleiss, Sun and Weinberger 2017, On Calibration of Modern Neural Networks (ICML 2017,
    arXiv 1706.04599), section 4.2.
Kind: sample. Nothing is adapted; predictions are those of `clip-zero-shot`, confidences are not.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from typing_extensions import override

from ttt_bench import (
    Prediction,
    Sample,
    SampleRNG,
    Task,
    UserError,
)
from ttt_bench_clip_tta.adapter import TextAdapter
from ttt_bench_clip_tta.prompts import PromptConfig


class TemperatureConfig(PromptConfig):
    """The configuration of `temperature`."""

    temperature: float | None = Field(
        None,
        gt=0,
        description="divisor of the logits, chosen on labelled images that are no test images; "
        "`ttt-bench clip-tta choose-temperature` chooses one",
    )


class Temperature(TextAdapter[TemperatureConfig]):
    """`temperature`: zero-shot logits divided by a number."""

    Config = TemperatureConfig

    @override
    @torch.no_grad()
    def setup(self, task: Task) -> None:
        if self.config.temperature is None:
            raise UserError(
                "this method needs a temperature: give one with --set temperature=T, or choose one "
                "with `ttt-bench clip-tta choose-temperature`"
            )
        super().setup(task)
        self.scale = self.scale / self.config.temperature

    @override
    @torch.no_grad()
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        features = self.encode_images(samples)[:, None]  # (samples, 1, dim)
        scores = self.logits(features)[:, 0]
        return [Prediction(logits) for logits in scores]
