"""Further methods, on the inputs of other files, which lie beside a file of this kind.

VTE, TPS and ECALP are computed on the features of `clip_features.npz`, methods that need CLIP's
towers on the tiny CLIP of `tpt.npz` with the tokens of `clip_towers.npz`.

AdamW's first step is a sign, so TPS moves a coordinate either way where its gradient is rounding
noise: samples that the release's own rerun in float64 moves are left out. So are those with which
ECALP's lists of neighbours become full, where the release loses some.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ttt_bench_tpt import goldens as tpt_goldens
from ttt_bench_tpt.goldens import dynaprompt, more

from ttt_bench import UserError
from ttt_bench_clip_tta.goldens import low_rank
from ttt_bench_clip_tta.goldens.file import FeatureFile
from ttt_bench_clip_tta.goldens.towers import TowerFile
from ttt_bench_clip_tta.methods import ecalp, tps
from ttt_bench_clip_tta.views import view_statistics

# Arrays of the files that lie beside a file of this kind.
BESIDE = "golden_file/"
# The package's own files, each by an array of it.
OWN = {
    "input/views": Path(__file__).with_name("clip_features.npz"),
    "views": Path(tpt_goldens.__file__).with_name("tpt.npz"),
    "tokens/values": Path(__file__).with_name("clip_towers.npz"),
}
# The methods that need CLIP's towers, each with what it computes and what the file expects.
TOWERS: tuple[Callable[[TowerFile], dict[str, tuple[Tensor, Tensor]]], ...] = (
    low_rank.run_ttl,
    more.run_rtpt,
    dynaprompt.run_dynaprompt,
)
# Logits of the release in float32 and in float64 that are no further apart.
STABLE = 1e-3
# ECALP's samples with which a list of 5 to 8 neighbours becomes full.
FIRST_FULL, LAST_FULL = 5, 11


@torch.no_grad()
def compute(
    arrays: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pairs of a computed and an expected value by the name of the output.

    Raises:
        UserError: the inputs that the numbers are of are not there.
    """
    inputs = _inputs(arrays)
    features = {name: value for name, value in inputs.items() if name.startswith("input/")}
    file = FeatureFile({**arrays, **features}, device)
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for run in (run_vte, run_tps, run_ecalp):
        pairs |= run(file)
    towers = TowerFile({**arrays, **inputs, **_as_beside(inputs)}, device)
    for run in TOWERS:
        pairs |= run(towers)
    return pairs


def _inputs(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the arrays of the other files, from beside the file or from the package's own.

    Raises:
        UserError: they are not those that the numbers are of.
    """
    inputs: dict[str, Any] = {
        name.removeprefix(BESIDE): value
        for name, value in arrays.items()
        if name.startswith(BESIDE)
    }
    for array, path in OWN.items():
        if array not in inputs:
            with np.load(path) as own:
                inputs = {**own, **inputs}
    for array, expected in zip(arrays["sha256_of"], arrays["sha256_16"], strict=True):
        if hashlib.sha256(inputs[str(array)].tobytes()).hexdigest()[:16] != expected:
            raise UserError(
                f"the numbers are of another array {array}; put the files of their seed beside them"
            )
    return inputs


def _as_beside(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{BESIDE}{name}": value for name, value in inputs.items()}


def run_vte(file: FeatureFile) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the logits."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for case in file.cases("vte/logits"):
        share = file.value(f"{case}/hyper/selection")
        logits = view_statistics(file.views, file.logits(), share).logits
        pairs[f"{case}/logits"] = logits, file.tensor(f"{case}/logits")
    return pairs


def run_tps(file: FeatureFile) -> dict[str, tuple[Tensor, Tensor]]:
    """Return views and losses of every step, and the logits of stable samples."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for case in file.cases("tps/logits"):
        lr, shared = file.value(f"{case}/hyper/lr"), not file.value(f"{case}/hyper/per_class")
        shifts = tps.Shifts(len(file.views), file.text, file.scale, lr, shared)
        share, number = file.value(f"{case}/hyper/selection"), file.value(f"{case}/hyper/steps")
        steps = [shifts.step(file.views, share) for _ in range(int(number))]
        views, losses = (torch.stack(some, dim=1) for some in zip(*steps, strict=True))
        logits = shifts.logits(file.views[:, :1])[:, 0]
        stable = file.tensor(f"{case}/f64_gap_per_sample") < STABLE
        pairs |= {
            f"{case}/selected": (views, file.tensor(f"{case}/selected")),
            f"{case}/loss": (losses, file.tensor(f"{case}/loss")),
            f"{case}/logits": (logits[stable], file.tensor(f"{case}/logits")[stable]),
        }
    return pairs


def run_ecalp(file: FeatureFile) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the scores, and the labels of all images in the end."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for case in file.cases("ecalp/scores"):
        texts, images, gamma, _, rounds = file.tensor(f"{case}/hyper").int().tolist()
        method = ecalp.Ecalp(
            ecalp.EcalpConfig(
                text_neighbours=texts, image_neighbours=images, gamma=gamma, rounds=rounds
            )
        )
        method.text = file.text
        method.begin()
        labels = [method.predict(feature) for feature in file.views[:, 0]]
        numbers = torch.arange(len(labels))
        compared = (numbers < FIRST_FULL) | (numbers > LAST_FULL)
        scores = torch.stack([each[-1] for each in labels])
        pairs |= {
            f"{case}/scores": (scores[compared], file.tensor(f"{case}/scores")[compared]),
            f"{case}/last_labels": (labels[-1], file.tensor(f"{case}/last_labels")),
        }
    return pairs
