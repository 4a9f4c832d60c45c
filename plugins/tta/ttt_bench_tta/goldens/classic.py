"""The methods on the two small networks of the file, one case after another.

A case starts from the file's weights and sees its batches in order. Its augmentation is mirroring,
and what is random in a release (tiles, masks, views) is in the file. Where a release has a defect
that its numbers show, the functions here ask for it.
"""

import copy
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from ttt_bench_tta.goldens.file import File, mirrored
from ttt_bench_tta.memory import Memory
from ttt_bench_tta.methods import (
    cotta,
    deyo,
    eata,
    eta,
    lame,
    memo,
    norm,
    roid,
    rotta,
    sar,
    t3a,
    tent,
)
from ttt_bench_tta.normalization import put_back, trained, use_batch_statistics, weights_of

SAR_RESET_BELOW = 0.2
COTTA_SEEDS = {"cotta_cifar": 12, "cotta_vit": 13}


def compute(
    arrays: Mapping[str, np.ndarray], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pairs of computed and expected logits by the name of the case.

    The first batch of a case has a pair of its own, since rounding can grow from batch to batch.
    """
    file = File(arrays, device)
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for case in file.cases():
        run = CASES[case.partition("_")[0]]
        computed, expected = torch.stack(list(run(file, case))), file.tensor(case, "logits")
        pairs[f"{case}/logits"] = computed, expected
        if "memo" not in case:
            pairs[f"{case}/logits/first"] = computed[0], expected[0]
    return pairs


@torch.no_grad()
def run_norm(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch."""
    model = file.model(case)
    norm.configure(model, prior=0.0)
    for pixels in file.batches(case):
        yield model(pixels)


def run_tent(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch."""
    steps, episodic = int(file.value(case, "steps", 1.0)), file.value(case, "episodic", 0.0)
    start = file.model(case)
    tent.configure(start)
    model = copy.deepcopy(start)
    optimizer = file.optimizer(case, model)
    for pixels in file.batches(case):
        if episodic:
            model = copy.deepcopy(start)
            optimizer = file.optimizer(case, model)
        yield tent.learn(model, optimizer, pixels, steps)


def run_memo(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every image; one optimizer goes on from image to image."""
    model = file.model(case)
    memo.configure(model, int(file.value(case, "prior_strength")))
    source = weights_of(model)
    config = memo.MemoConfig.model_validate(
        {
            "optimizer": "adamw" if "adamw" in case else "sgd",
            "lr": file.value(case, "lr"),
            "weight_decay": file.value(case, "weight_decay"),
        }
    )
    optimizer = memo.make_optimizer(model, config)
    images = next(file.batches(case))
    for views, image in zip(file.tensor("memo", "views").float(), images, strict=False):
        steps = memo.learn(model, optimizer, views, image[None], int(file.value(case, "niter")))
        put_back(model, source)
        yield steps[-1]


@torch.no_grad()
def run_t3a(file: File, case: str) -> Iterator[Tensor]:
    """Yield the scores of every batch; filter_K = -1 drops the last support of every class."""
    model, k = file.model(case), int(file.value(case, "filter_K"))
    rows = file.head(model).weight
    supports = t3a.Supports.judged(rows, model.classify)
    for pixels in file.batches(case):
        features = model.features(pixels)
        supports = supports.extended(t3a.Supports.judged(features, model.classify))
        supports = supports.filtered(k, len(rows))
        yield supports.scores(features, len(rows))


@torch.no_grad()
def run_lame(file: File, case: str) -> Iterator[Tensor]:
    """Yield the assignments of every batch."""
    model = file.model(case)
    kernel: lame.Kernel = "knn" if "kNN" in case else "rbf" if "rbf" in case else "linear"
    neighbours, symmetric = int(file.value(case, "knn")), bool(file.value(case, "force_symmetry"))
    for pixels in file.batches(case):
        features = model.features(pixels)
        weights = lame.affinities(features, kernel, neighbours, symmetric)
        yield lame.maximize(model.classify(features).softmax(dim=1), weights)


def run_eta(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch, with Fisher's regularizer where the case has one."""
    model, mean = file.model(case), None
    tent.configure(model)
    margins = eta.Margins(file.value(case, "e_margin"), file.value(case, "d_margin"))
    alpha, source, fisher = file.value(case, "fisher_alpha"), weights_of(model), {}
    if alpha:
        training = file.tensor("eata_fisher", "images").float()
        fisher = eata.fisher_information(model, training)
    optimizer = file.optimizer(case, model)
    for pixels in file.batches(case):
        if alpha:
            logits, mean = eata.learn(
                model, optimizer, pixels, mean, margins, fisher, source, alpha
            )
        else:
            logits, mean = eta.learn(model, optimizer, pixels, mean, margins)
        yield logits


def run_sar(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch.

    The optimizer steps without a sample too, and a new start keeps the mean loss and the momentum.
    """
    model, mean = file.model(case), None
    with torch.no_grad():
        for parameter in file.head(model).parameters():
            parameter *= file.value(case, "head_scale")
    sar.configure(model)
    source, optimizer = weights_of(model), file.optimizer(case, model)
    margin, rho = file.value(case, "margin_e0"), file.value(case, "rho")
    for pixels in file.batches(case):
        logits, loss = sar.learn(model, optimizer, pixels, margin, rho, always_step=True)
        mean = sar.moving_average(mean, loss)
        if mean is not None and mean < SAR_RESET_BELOW:
            put_back(model, source)
        yield logits


def run_cotta(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch; one generator draws the masks of all batches."""
    student = file.model(case)
    use_batch_statistics(student)
    teacher, anchor = copy.deepcopy(student), copy.deepcopy(student)
    cotta.configure(student)
    optimizer = file.optimizer(case, student)
    loss: cotta.Loss = "cross-entropy" if "cifar" in case else "symmetric"
    generator = torch.Generator().manual_seed(file.seed + COTTA_SEEDS.get(case, 11))
    for pixels in file.batches(case):
        logits = cotta.target(teacher, anchor, pixels, mirrored, file.value(case, "ap"), copies=32)
        cotta.learn(student, optimizer, pixels, logits, loss)
        cotta.average(teacher, student, file.value(case, "mt"))
        cotta.restore(student, anchor, file.value(case, "rst"), generator)
        yield logits


def run_rotta(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch."""
    student, seen = file.model(case), 0
    rotta.configure(student, file.value(case, "alpha"))
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(trained(student), lr=file.value(case, "lr"))
    memory = Memory(
        int(file.value(case, "memory_size")),
        len(file.head(student).weight),
        file.value(case, "lambda_t"),
        file.value(case, "lambda_u"),
    )
    for pixels in file.batches(case):
        logits, items = rotta.predict(teacher, pixels)
        for item in items:
            memory.add(item)
            seen += 1
            if seen % file.value(case, "update_frequency") == 0:
                rate = file.value(case, "nu")
                rotta.update(teacher, student, optimizer, memory, mirrored, rate)
        yield logits


def run_deyo(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch, with the file's permutations."""
    model = file.model(case)
    deyo.configure(model)
    margins = deyo.Margins(
        file.value(case, "deyo_margin"),
        file.value(case, "margin_e0"),
        file.value(case, "plpd_threshold"),
    )
    optimizer = file.optimizer(case, model)
    for batch, pixels in enumerate(file.batches(case)):

        def destroy(images: Tensor, positions: Tensor, batch: int = batch) -> Tensor:
            if "occ" in case:
                size, row, column = file.tensor(case, "occlusion").tolist()
                return deyo.occlude(images, size, row, column)
            order = file.tensor(case, f"perm/{batch}").long()
            shuffle = deyo.shuffle_pixels if "pixel" in case else deyo.shuffle_tiles
            return shuffle(images, order)

        yield deyo.learn(model, optimizer, pixels, destroy, margins)


def run_roid(file: File, case: str) -> Iterator[Tensor]:
    """Yield the logits of every batch."""
    model = file.model(case)
    tent.configure(model)
    source, optimizer = weights_of(model), file.optimizer(case, model)
    classes = len(file.head(model).weight)
    mean = torch.full((classes,), 1 / classes, device=file.device)
    settings = roid.Step(
        batch_size=int(file.value(case, "batch_size")),
        temperature=file.value(case, "temperature"),
        mean_momentum=file.value(case, "momentum_probs"),
    )
    source_share = 1 - file.value(case, "momentum_src")
    augment = mirrored if file.value(case, "use_consistency") else None
    for pixels in file.batches(case):
        logits, mean = roid.learn(model, optimizer, pixels, mean, augment, settings)
        roid.move_towards(model, source, source_share)
        yield roid.correct_prior(logits) if file.value(case, "use_prior_correction") else logits


CASES: Mapping[str, Callable[[File, str], Iterator[Tensor]]] = {
    "norm": run_norm,
    "tent": run_tent,
    "memo": run_memo,
    "t3a": run_t3a,
    "lame": run_lame,
    "eta": run_eta,
    "eata": run_eta,
    "sar": run_sar,
    "cotta": run_cotta,
    "rotta": run_rotta,
    "deyo": run_deyo,
    "roid": run_roid,
}
