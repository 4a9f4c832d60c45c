"""norm-ema: batch normalization by statistics that follow the test batches.

Paper: the moving average of BatchNorm (Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1) goes
    on at test time, as a variant of Schneider et al. 2020 (arXiv 2006.16971).
Code: mariodoebler/test-time-adaptation, norm.py (MIT licence).
Kind: stream. Nothing is trained; the statistics are kept.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import AdapterConfig, SampleRNG, Task, WorkingCopy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.normalization import FollowingStatistics, follow_batches, replace_batch_norm


class NormEmaConfig(AdapterConfig):
    """The release's values."""

    batch_size: int = Field(64, ge=1, description="samples in a batch")
    rate: float = Field(
        0.1, ge=0, le=1, description="share of a batch in the new statistics, BatchNorm's momentum"
    )


def configure(model: WorkingCopy, rate: float) -> None:
    """Let the statistics of every BatchNorm layer follow the batches.

    Args:
        model: the working copy.
        rate: the share of a batch.
    """
    replace_batch_norm(model, lambda layer: FollowingStatistics(layer, rate))


@torch.no_grad()
def predict(
    model: WorkingCopy, pixels: Float[Tensor, "batch 3 side side"]
) -> Float[Tensor, "batch classes"]:
    """Update the statistics by a first forward pass, and return the logits of a second."""
    follow_batches(model, follow=True)
    model(pixels)
    follow_batches(model, follow=False)
    return model(pixels)


class NormEma(WorkingCopyAdapter[NormEmaConfig]):
    """`norm-ema`: the classifier under statistics that move with the stream."""

    Config = NormEmaConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model, self.config.rate)

    @override
    def predict(
        self, pixels: Float[Tensor, "batch 3 side side"], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch classes"]:
        return predict(self.model, pixels)
