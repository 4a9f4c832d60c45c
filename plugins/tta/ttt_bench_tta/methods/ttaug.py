"""ttaug: the mean of the logits of an image's augmented views.

Papers: Ashukha, Lyzhov, Molchanov and Vetrov 2020, Pitfalls of In-Domain Uncertainty Estimation and
    Ensembling in Deep Learning (ICLR 2020, arXiv 2002.06470), on test-time augmentation;
    BatchNorm by the views' statistics as in norm-alpha.
Code: mariodoebler/test-time-adaptation, ttaug.py (MIT licence).
Kind: sample. Nothing is trained, and nothing is kept.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import AdapterConfig, Prediction, Sample, SampleRNG, Task, WorkingCopy
from ttt_bench_tta.adapter import AugMixAdapter
from ttt_bench_tta.methods.norm_alpha import configure


class TTAugConfig(AdapterConfig):
    """The release's values."""

    views: int = Field(33, ge=1, description="views of an image, the image included")
    alpha: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of the views' own BatchNorm statistics; the rest are the trained",
    )


@torch.no_grad()
def predict(
    model: WorkingCopy, views: Float[Tensor, "views 3 side side"]
) -> Float[Tensor, " classes"]:
    """Return the mean of the logits of the views, which pass the model as one batch."""
    return model(views).mean(dim=0)


class TTAug(AugMixAdapter[TTAugConfig]):
    """`ttaug`: one image, its views, the mean of their logits.

    Attributes:
        model: the classifier, with mixed BatchNorm statistics.
    """

    Config = TTAugConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model, self.config.alpha)

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        predictions: list[Prediction] = []
        for sample, rng in zip(samples, rngs, strict=True):
            views = self.task.view_pixels(sample, rng, self.view_set)
            with self.task.forward_pass():
                predictions.append(Prediction(predict(self.model, views)))
        return predictions
