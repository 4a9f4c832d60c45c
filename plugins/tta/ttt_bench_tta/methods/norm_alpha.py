"""norm-alpha: batch normalization by a mix of trained statistics with those of the test batch.

Papers: Schneider et al. 2020, Improving robustness against common corruptions by covariate shift
    adaptation (NeurIPS 2020, arXiv 2006.16971), section 2, with a fixed share in place of N/(N+n).
Code: mariodoebler/test-time-adaptation, norm.py (MIT licence), after bethgelab/robustness.
Kind: batch. Nothing is trained, and nothing is kept.
"""

from pydantic import Field
from torch import nn
from typing_extensions import override

from ttt_bench import AdapterConfig, Task, WorkingCopy
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.normalization import PriorStatistics, replace_batch_norm


class NormAlphaConfig(AdapterConfig):
    """The release's values for CIFAR-10-C and ImageNet-C."""

    batch_size: int = Field(1, ge=1, description="samples in a batch")
    alpha: float = Field(
        0.1, ge=0, le=1, description="share of the batch's statistics; the rest are the trained"
    )


def configure(model: WorkingCopy, alpha: float) -> None:
    """Mix the statistics: a share of the batch's, the rest the trained ones.

    Args:
        model: the working copy.
        alpha: the share.
    """

    def mixed(layer: nn.BatchNorm2d) -> PriorStatistics:
        return PriorStatistics(layer, 1 - alpha, weight=alpha, unbiased=True)

    replace_batch_norm(model, mixed)


class NormAlpha(WorkingCopyAdapter[NormAlphaConfig]):
    """`norm-alpha`: the classifier under mixed statistics."""

    Config = NormAlphaConfig

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        configure(self.model, self.config.alpha)
