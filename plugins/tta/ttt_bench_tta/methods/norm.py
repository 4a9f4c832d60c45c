"""norm: batch normalization by the statistics of the test batch.

Papers: Schneider et al. 2020, Improving robustness against common corruptions by covariate shift
    adaptation (NeurIPS 2020, arXiv 2006.16971), section 2; Nado et al. 2020 (arXiv 2006.10963).
Code: DequanWang/tent, norm.py (MIT licence).
Kind: batch. Nothing is trained, and nothing is kept.
"""

from pydantic import Field
from torch import nn
from typing_extensions import override

from ttt_bench import AdapterConfig, Task, WorkingCopy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.normalization import PriorStatistics, replace_batch_norm, use_batch_statistics


class NormConfig(AdapterConfig):
    """The fields of batch normalization by test statistics."""

    batch_size: int = Field(64, ge=1, description="samples in a batch")
    prior: float = Field(
        0.0,
        ge=0,
        description="weight of the trained statistics, as a number of samples; 0 for the batch's",
    )


def configure(model: WorkingCopy, prior: float) -> None:
    """Choose the statistics: N/(N+n) of the trained ones, and n/(N+n) of the n samples' own.

    Args:
        model: the working copy.
        prior: N.
    """
    if prior == 0:
        use_batch_statistics(model)
        return

    def mixed(layer: nn.BatchNorm2d) -> PriorStatistics:
        return PriorStatistics(layer, prior, weight=None, unbiased=False)

    replace_batch_norm(model, mixed)


class Norm(WorkingCopyAdapter[NormConfig]):
    """`norm`: the classifier under the statistics of the batch."""

    Config = NormConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model, self.config.prior)
