"""The further methods, on the inputs of a file of the kind `classic` that lies beside.

Everything is as in `goldens.classic`. Projectors, queues and the labels of training images are in
the file. Where a release has a defect that its numbers show, the functions here ask for it.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttt_bench import UserError, WorkingCopy
from ttt_bench_tta.contrast import Projector, means
from ttt_bench_tta.goldens.file import File, mirrored, network
from ttt_bench_tta.methods import (
    adacontrast,
    cmf,
    cotta,
    eta,
    norm_alpha,
    norm_ema,
    rmt,
    roid,
    rpl,
    santa,
    tent,
    ttaug,
)
from ttt_bench_tta.normalization import put_back, weights_of

# Arrays of the files that lie beside a file of this kind.
BESIDE = "golden_file/"
INPUTS = ("resnet/", "vit/", "memo/views", "eata_fisher/images")
TRAINING = "eata_fisher/images"
# Samples after which AdaContrast's neighbours vote.
NEIGHBOURS_AFTER = 1024


def compute(
    arrays: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pairs of computed and expected values by the name of the output.

    The first batch of a case has a pair of its own, since rounding can grow from batch to batch.

    Raises:
        UserError: the images that the numbers are of are not there.
    """
    file = File({**_inputs(arrays), **arrays}, device)
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for case in file.cases():
        run = next(run for name, run in CASES.items() if case.startswith(name))
        computed, expected = torch.stack(list(run(file, case))), file.tensor(case, "logits")
        pairs[f"{case}/logits"] = computed, expected
        if not case.startswith("ttaug"):
            pairs[f"{case}/logits/first"] = computed[0], expected[0]
        if f"{case}/prototypes" in file and TRAINING in file:
            pairs[f"{case}/prototypes"] = prototypes(file, case), file.tensor(case, "prototypes")
    return pairs


def _inputs(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return images and weights, from the file beside or from the package's own."""
    inputs: dict[str, Any] = {
        name.removeprefix(BESIDE): value
        for name, value in arrays.items()
        if name.startswith(BESIDE)
    }
    if "images" not in inputs:
        with np.load(Path(__file__).with_name("classic.npz")) as own:
            inputs = dict(own)
    expected = str(arrays["images_sha256_16"])
    if hashlib.sha256(inputs["images"].tobytes()).hexdigest()[:16] != expected:
        raise UserError(
            "the numbers are of another classic.npz; put the one of their seed beside them"
        )
    return {
        name: value for name, value in inputs.items() if name == "images" or name.startswith(INPUTS)
    }


@torch.no_grad()
def run_norm_alpha(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch."""
    model = file.model(case)
    norm_alpha.configure(model, file.value(case, "alpha"))
    for pixels in file.batches(case):
        yield model(pixels)


def run_norm_ema(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch; `single` has the first two images, one after the other."""
    model = file.model(case)
    norm_ema.configure(model, file.value(case, "momentum"))
    for pixels in file.batches(case):
        parts = pixels[:2].split(1) if "single" in case else [pixels]
        yield torch.cat([norm_ema.predict(model, part) for part in parts])


def run_ttaug(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every image."""
    model = file.model(case)
    norm_alpha.configure(model, file.value(case, "alpha"))
    for views in file.tensor("memo", "views").float():
        yield ttaug.predict(model, views)


def run_rpl(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch."""
    model = file.model(case)
    tent.configure(model)
    optimizer = file.optimizer(case, model)
    for pixels in file.batches(case):
        yield rpl.learn(model, optimizer, pixels, file.value(case, "q"))


def run_rdumb(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch; a stream goes on from the steps before."""
    model, mean = file.model(case), None
    tent.configure(model)
    source, optimizer = weights_of(model), file.optimizer(case, model)
    margins = eta.Margins(file.value(case, "e_margin"), file.value(case, "d_margin"))
    before, every = int(file.value(case, "steps_before")), int(file.value(case, "reset_every"))
    for step, pixels in enumerate(file.batches(case), start=before):
        if step % every == 0:
            put_back(model, source)
            optimizer.state.clear()
            mean = None
        logits, mean = eta.learn(model, optimizer, pixels, mean, margins)
        yield logits


def run_cmf(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch."""
    model, variance = file.model(case), 0.0
    tent.configure(model)
    source, hidden, optimizer = weights_of(model), weights_of(model), file.optimizer(case, model)
    classes = len(file.head(model).weight)
    mean = torch.full((classes,), 1 / classes, device=file.device)
    step = roid.Step(
        int(file.value(case, "batch_size")),
        file.value(case, "temperature"),
        file.value(case, "momentum_probs"),
    )
    alpha, gamma = file.value(case, "alpha"), file.value(case, "gamma")
    augment = mirrored if file.value(case, "use_consistency") else None
    for pixels in file.batches(case):
        logits, mean = roid.learn(model, optimizer, pixels, mean, augment, step)
        beta, variance = cmf.gain(variance, file.value(case, "q"), alpha)
        cmf.filter_weights(model, hidden, source, alpha, beta, gamma)
        yield roid.correct_prior(logits) if file.value(case, "use_prior_correction") else logits


@torch.no_grad()
def prototypes(file: File, case: str) -> Tensor:
    """Return the class means of the training images, or the file's where these are missing."""
    if TRAINING not in file:
        return file.tensor(case, "prototypes")
    model = file.model(case)
    tent.configure(model)
    features = [model.features(pixels) for pixels, _ in training_batches(file, case)]
    labels = [labels for _, labels in training_batches(file, case)]
    return means(torch.cat(features), torch.cat(labels))


def training_batches(file: File, case: str) -> list[rmt.Labelled]:
    """Return the batches of training images with their labels."""
    images = file.tensor("eata_fisher", "images").float()
    labels = file.tensor(f"rmt_inputs_{network(case)}", "source_labels")
    return list(zip(images, labels.split(images.shape[1]), strict=True))


def projector(file: File, case: str, model: WorkingCopy) -> Projector:
    """Return the projector of a case."""
    made = Projector(file.head(model).in_features).to(file.device)
    name = f"rmt_inputs_{network(case)}"
    made.load_state_dict(
        {key: file.tensor(name, f"projector/{key}").float() for key in made.state_dict()}
    )
    return made


def run_rmt(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch, after the case's warm-up."""
    student = file.model(case)
    cotta.configure(student)
    teacher = copy.deepcopy(student).requires_grad_(False)
    project, class_means = projector(file, case, student), prototypes(file, case)
    optimizer = file.optimizer(case, nn.ModuleList([student, project]))
    momentum, weight = file.value(case, "mt"), file.value(case, "lambda_src")
    training = training_batches(file, case) if weight else []
    first = next(iter(file.batches(case)))
    steps = int(file.value(case, "warmup_samples")) // len(first)
    rmt.warm_up(
        student, teacher, optimizer, lambda n: training[n % len(training)][0], steps, momentum
    )
    weights = rmt.Weights(1.0, weight, file.value(case, "temperature"))
    for number, pixels in enumerate(file.batches(case), start=steps):
        labelled = training[number % len(training)] if training else None
        yield rmt.learn(
            student, teacher, project, optimizer, pixels, mirrored, class_means, labelled, weights
        )
        cotta.average(teacher, student, momentum)


def run_santa(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch; the logarithm is that of the anchor."""
    student = file.model(case)
    tent.configure(student)
    anchor = copy.deepcopy(student).requires_grad_(False)
    project, class_means = projector(file, case, student), prototypes(file, case)
    optimizer = file.optimizer(case, nn.ModuleList([student, project]))
    weight, temperature = file.value(case, "lambda_cont"), file.value(case, "temperature")
    for pixels in file.batches(case):
        yield santa.learn(
            student, anchor, project, optimizer, pixels, mirrored, class_means, weight,
            temperature, anchor_as_cost=True,
        )  # fmt: skip


def run_adacontrast(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch; the queue is full from the start.

    When the bank is full the release first replaces the batch that has just come.
    """
    student = file.model(case)
    adacontrast.configure(student)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = file.optimizer(case, student)
    size, given = int(file.value(case, "queue_size")), f"adacontrast_inputs_{network(case)}"
    keys = F.normalize(file.tensor(given, "queue_features").float().T, dim=1)
    queue = adacontrast.Newest(size, keys, file.tensor(given, "queue_labels"))
    bank = adacontrast.Newest(size, keys[:0], torch.empty(0, 10, device=file.device))
    seen = before = int(file.value(case, "seen_before"))
    for pixels in file.batches(case):
        vote = int(file.value(case, "neighbours")) if seen >= NEIGHBOURS_AFTER else 0
        seen += len(pixels)
        views = adacontrast.Views(pixels, pixels.flip(-1), pixels.flip(-2))
        adacontrast.learn(
            student, teacher, optimizer, views, queue, bank, vote, file.value(case, "mt"),
            file.value(case, "temperature"), mask_after_write=True,
        )  # fmt: skip
        if seen - before == size:
            bank.features, bank.values = (
                kept.roll(len(pixels), dims=0) for kept in (bank.features, bank.values)
            )
        with torch.no_grad():
            yield student(pixels)


CASES: Mapping[str, Callable[[File, str], Iterator[Tensor]]] = {
    "adacontrast": run_adacontrast,
    "cmf": run_cmf,
    "norm_alpha": run_norm_alpha,
    "norm_ema": run_norm_ema,
    "rdumb": run_rdumb,
    "rmt": run_rmt,
    "rpl": run_rpl,
    "santa": run_santa,
    "ttaug": run_ttaug,
}
