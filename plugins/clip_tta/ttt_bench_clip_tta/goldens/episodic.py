"""ZERO, MTA and StatA on the features of a golden file."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ttt_bench_clip_tta.goldens.file import FeatureFile
from ttt_bench_clip_tta.methods import mta, stata, zero
from ttt_bench_clip_tta.views import count_votes, number_kept


def releases_last_resort(
    tied: Bool[Tensor, "batch classes"], logits: Float[Tensor, "batch classes"]
) -> Int[Tensor, " batch"]:
    """Return the class that ZERO's release gives the vote; its mask hides class C - 1 - t for t."""
    return logits.masked_fill(tied.flip(1), -torch.inf).argmax(dim=1)


def run_zero(file: FeatureFile) -> Mapping[str, Tensor]:
    """Return votes and views by confidence of every case."""
    computed: dict[str, Tensor] = {}
    for case in file.cases("zero/votes"):
        share = file.value("zero/hyper/gamma")
        logits = file.logits(file.tensor(f"{case}/view_order").shape[1])
        votes, order = zero.vote(logits, share, releases_last_resort)
        kept = number_kept(logits.shape[1], share)
        labels = logits.argmax(dim=2).gather(1, order[:, :kept])
        first = count_votes(labels, logits.shape[2])
        computed |= {
            f"{case}/votes": votes,
            f"{case}/predictions": votes.argmax(dim=1),
            f"{case}/view_order": order,
            f"{case}/ties": (first == first.amax(dim=1, keepdim=True)).sum(dim=1),
        }
    return computed


def run_mta(file: FeatureFile) -> Mapping[str, Tensor]:
    """Return the mode of every sample's views, and what follows from it."""
    if "mta/logits" not in file:
        return {}
    views, logits = file.views, file.logits()
    lambdas = file.value("mta/hyper/lambda_y"), file.value("mta/hyper/lambda_q")
    mode = mta.find_mode(views, logits, *lambdas)
    scores = mta.combine(mode.parts, logits)
    return {
        "mta/logits": scores,
        "mta/weights": mode.weights,
        "mta/mode": mta.combine(mode.parts, views),
        "mta/bandwidth": mode.bandwidth,
        "mta/predictions": scores.argmax(dim=1),
    }


def run_stata(file: FeatureFile) -> Mapping[str, Tensor]:
    """Return the probabilities of plain images, taken as one batch, and the fitted Gaussians."""
    computed: dict[str, Tensor] = {}
    for case in file.cases("stata/probabilities"):
        config = stata.StatAConfig(
            anchor=file.value("stata/hyper/alpha"),
            neighbours=int(file.value("stata/hyper/neighbours")),
            soft_counts=case.endswith("soft"),
        )
        count = len(file.tensor(f"{case}/probabilities"))
        probabilities, fitted = stata.fit(file.views[:count, 0], file.text, file.scale, config)
        computed |= {
            f"{case}/probabilities": probabilities,
            f"{case}/predictions_": probabilities.argmax(dim=1),
            f"{case}/mean": fitted.mean,
            f"{case}/variance": fitted.variance,
            f"{case}/anchor_weight": fitted.weight,
        }
    return computed


METHODS = (run_zero, run_mta, run_stata)
