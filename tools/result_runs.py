"""Numbers of the finished runs of a row: one run for each seed."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from ttt_bench.compare.read import FinishedRun


def correct(
    runs: Sequence[FinishedRun], any_step: bool = False
) -> Bool[np.ndarray, "seeds samples"]:
    """Return which predictions are right, for each seed, in the order of the samples' ids.

    Args:
        runs: the runs.
        any_step: whether a sample is right if the prediction after any step was.
    """
    return np.stack(
        [
            (run.records.correct_at_any_step if any_step else run.records.correct)[
                np.argsort(run.records.sample_id)
            ]
            for run in runs
        ]
    )


def top1(runs: Sequence[FinishedRun]) -> str:
    """Return the mean accuracy over seeds and its standard deviation."""
    values = np.array([run.summary["top1"] for run in runs])
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"
